"""Calibration: probabilities from scores, and the searches that they are fitted to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matching_data import TableStore, random_table, unit

from retrieval_grounding.core.phrases import Phrases
from retrieval_grounding.matching.calibrate import calibrate, descriptions_in
from retrieval_grounding.matching.calibration import Calibration
from retrieval_grounding.matching.dataset import Examples
from retrieval_grounding.matching.fit_calibration import fit_calibration
from retrieval_grounding.matching.galleries import (
    HITS,
    GalleryHits,
    GalleryQueries,
    gallery_sizes,
    search_galleries,
)
from retrieval_grounding.matching.matcher import CosineMatcher
from retrieval_grounding.matching.relevance import ABSENT, SHOWN, UNKNOWN, relevance


def searches(scale: float, seed: int = 0) -> GalleryHits:
    """Searches among images whose scores are noise, for a phrase that one image shows or none.

    The score of an image that shows it is higher by 3 on average. If it is not the best, the best
    is wrong.
    """
    random = np.random.default_rng(seed)
    rows = []
    for number in range(6000):
        images = (1, 10, 100, 1000)[number % 4]
        own_in = bool(number // 4 % 2)
        scores = random.normal(0, 1, images)
        shown = np.zeros(images, np.int8)
        if own_in:
            scores[0] += 3
            shown[0] = SHOWN
        order = np.argsort(-scores)[:HITS]
        missing = HITS - len(order)
        rows.append((
            number, images, own_in,
            np.pad(scores[order] * scale, (0, missing), constant_values=np.nan),
            np.pad(shown[order], (0, missing), constant_values=UNKNOWN),
        ))  # fmt: skip
    query, images, own_in, scores, shows = (np.array(column) for column in zip(*rows, strict=True))
    box = np.where(shows == SHOWN, random.random(shows.shape) < 0.6, UNKNOWN).astype(np.int8)
    return GalleryHits(query, images, own_in, scores.astype(np.float32), shows, box)


def probabilities_of(calibration: Calibration, hits: GalleryHits) -> np.ndarray:
    """The probability of each search's first hit, (g, 2): image and box."""
    found = []
    for scores, images in zip(hits.scores, hits.images.tolist(), strict=True):
        own = calibration(scores[np.isfinite(scores)], images)
        found.append((own.image[0], own.box[0]))
    return np.array(found)


@pytest.mark.parametrize("scale", [0.02, 1.0, 50.0])
def test_probabilities_are_the_observed_frequencies_at_every_size(scale):
    calibration = fit_calibration(searches(scale))
    assert calibration is not None
    assert calibration.size < 0
    again = searches(scale, seed=1)
    image, box = probabilities_of(calibration, again).T
    for size in (1, 10, 100, 1000):
        rows = again.images == size
        right = again.shows[rows, 0] == SHOWN
        assert abs(right.mean() - image[rows].mean()) < 0.06
        for low, high in ((0, 0.2), (0.8, 1)):
            inside = (image[rows] >= low) & (image[rows] <= high)
            assert abs(right[inside].mean() - image[rows][inside].mean()) < 0.08
    shown = again.shows[:, 0] == SHOWN
    assert (again.box[shown, 0] == SHOWN).mean() == pytest.approx(0.6, abs=0.03)
    assert (box / image).mean() == pytest.approx(0.6, abs=0.03)


@pytest.mark.parametrize("shows", [[SHOWN, SHOWN], [ABSENT, ABSENT], [SHOWN, ABSENT]])
def test_no_calibration_where_none_is_possible(shows):
    hits = searches(1.0).take(np.arange(2))
    scores = np.full((2, HITS), np.nan, np.float32)
    scores[:, 0] = 0.1, 0.9
    known = np.full((2, HITS), UNKNOWN, np.int8)
    known[:, 0] = shows
    assert fit_calibration(replace(hits, scores=scores, shows=known)) is None


def test_hits_that_may_be_right_are_neither_right_nor_wrong():
    hits = searches(1.0)
    certain = fit_calibration(hits)
    more = GalleryHits(*(np.concatenate([column, column[:500]]) for column in vars(hits).values()))
    more.shows[len(hits) :] = more.box[len(hits) :] = UNKNOWN
    more.scores[len(hits) :, 0] += 5
    assert fit_calibration(more) == certain


score_lists = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=15)


@given(score_lists, st.integers(1, 10**7), st.floats(0.01, 5), st.floats(-3, 3))
def test_hits_keep_their_order_and_a_box_is_never_more_probable_than_its_image(
    scores, images, slope, rivals
):
    calibration = Calibration(slope, -1.0, -0.5, -slope / 2, rivals, -rivals, 0.2, 0.3, 0.1)
    found = calibration(np.array(scores, np.float32), images)
    order = np.argsort(scores)
    assert (np.diff(found.image[order]) >= 0).all()
    assert (np.diff(found.box[order]) >= 0).all()
    assert (found.box <= found.image).all()
    assert ((found.image >= 0) & (found.image <= 1)).all()


def test_an_old_calibration_keeps_its_meaning():
    """Files of former releases hold a slope and an intercept: Platt scaling of every score."""
    calibration = Calibration.from_dict({"slope": 2.0, "intercept": -1.0})
    scores = np.array([0.0, 0.5, 3.0], np.float32)
    expected = 1 / (1 + np.exp(-(2 * scores - 1)))
    for images in (1, 10_000):
        found = calibration(scores, images)
        np.testing.assert_allclose(found.image, expected, rtol=1e-5)
        np.testing.assert_allclose(found.box, expected, rtol=1e-5)


def test_a_calibration_survives_its_dictionary():
    calibration = Calibration(1.5, -2.0, -0.7, -0.1, -0.4, 0.5, 0.1, 0.6, -0.2)
    assert Calibration.from_dict(calibration.as_dict()) == calibration


def exact_examples(table, regions):
    """Phrases whose embeddings are those of given regions: (image, number in the image)."""
    rows = [table.image(image).start + number for image, number in regions]
    texts = [f"thing{row}" for row in rows]
    phrases = Phrases(texts, unit(table.embeddings[rows].astype(np.float32)))
    numbers = np.arange(len(rows))
    images = np.array([image for image, _ in regions])
    return Examples(phrases, numbers, numbers, images, table.boxes[rows] / 400)


def distinct_table(images: int):
    """Every region has something of its own, so the cosine says whether a phrase is about it."""
    table = random_table([3] * images, 0)
    own = unit(np.random.default_rng(1).normal(size=(len(table), table.embeddings.shape[1])))
    return replace(table, embeddings=own)


def search(table, regions, undetected=False, sizes=(1, 5)):
    store, examples = TableStore(table), exact_examples(table, regions)
    known = np.zeros((len(examples), len(store.keys)), np.int8)
    known[np.arange(len(examples)), examples.image] = SHOWN
    queries = GalleryQueries(
        examples.phrases, examples.image, list(examples.boxes[:, None]), known,
        np.full(len(examples), undetected),
    )  # fmt: skip
    return search_galleries(CosineMatcher(), store, store.keys, queries, sizes, 0)


def test_galleries_have_the_own_image_or_lack_it():
    hits = search(distinct_table(12), [(0, 1), (7, 3)])
    assert hits.images.tolist() == [1, 1, 5, 5] * 2
    assert hits.own_in.tolist() == [True, False] * 4
    np.testing.assert_array_equal(hits.shows[:, 0], np.where(hits.own_in, SHOWN, ABSENT))
    np.testing.assert_allclose(hits.scores[hits.own_in, 0], 1, atol=2e-3)
    assert (hits.scores[~hits.own_in, 0] < 0.9).all()
    np.testing.assert_array_equal(hits.box[:, 0], np.where(hits.own_in, SHOWN, UNKNOWN))
    held = np.isfinite(hits.scores).sum(axis=1)
    np.testing.assert_array_equal(held, hits.images)
    assert (np.diff(hits.scores[hits.images == 5][:, :5], axis=1) <= 0).all()


def test_an_undetected_target_leaves_the_next_best_region():
    table = distinct_table(12)
    hits = search(table, [(0, 1)], undetected=True, sizes=(1,))
    phrase = exact_examples(table, [(0, 1)]).phrases
    rows = table.image(0)
    others = np.delete(CosineMatcher().score(phrase, table)[0, rows], 1)
    assert hits.scores[0, 0] == pytest.approx(others.max(), rel=1e-5)
    assert hits.shows[0, 0] == SHOWN
    assert hits.box[0, 0] == ABSENT


def test_an_image_that_may_show_it_is_not_in_a_gallery_that_must_not():
    table, regions = distinct_table(8), [(0, 1)]
    store, examples = TableStore(table), exact_examples(table, regions)
    known = np.array([[SHOWN, UNKNOWN, UNKNOWN, SHOWN, ABSENT, ABSENT, ABSENT, ABSENT]], np.int8)
    queries = GalleryQueries(
        examples.phrases, examples.image, list(examples.boxes[:, None]), known, np.zeros(1, bool)
    )
    hits = search_galleries(CosineMatcher(), store, store.keys, queries, [8], 0)
    assert hits.images.tolist() == [8, 4]
    assert (hits.shows[1, :4] == ABSENT).all()


def test_a_matcher_is_calibrated_on_what_searches_find():
    table = distinct_table(60)
    store = TableStore(table)
    examples = exact_examples(table, [(image, 1 + image % 3) for image in range(60)])
    texts = descriptions_in(examples, 60)
    calibration = calibrate(CosineMatcher(), store, store.keys, examples, texts, 0, undetected=0.0)
    assert calibration is not None
    for images in (1, 60):
        unmatched, matched = calibration(np.array([[0.3], [1.0]], np.float32), images).image
        assert unmatched < 0.1
        assert matched > 0.9


def test_examples_of_one_image_cannot_calibrate():
    table = random_table([4], 0)
    store, examples = TableStore(table), exact_examples(table, [(0, 1), (0, 2)])
    texts = descriptions_in(examples, 1)
    assert calibrate(CosineMatcher(), store, store.keys, examples, texts, 0, undetected=0.5) is None


def test_galleries_grow_tenfold_up_to_the_collection():
    assert gallery_sizes(1) == [1]
    assert gallery_sizes(15) == [1, 15]
    assert gallery_sizes(10_000) == [1, 10, 100, 1000, 10_000]


@pytest.mark.parametrize(
    ("phrase", "description", "labels", "expected"),
    [
        ("a brown dog", "a brown dog runs", [], SHOWN),
        ("brown dogs", "two dogs, one brown and one white", [], SHOWN),
        ("a brown dog", "a dog runs", [], UNKNOWN),
        ("a brown dog", "grass", ["dog"], UNKNOWN),
        ("a brown dog", "a cat on a sofa", ["couch"], ABSENT),
        ("a guy in a red shirt", "a woman smiles", [], UNKNOWN),
        ("a guy in a red shirt", "a street", ["person"], UNKNOWN),
        ("a guy in a red shirt", "an empty street", ["car"], ABSENT),
        ("the", "a dog", [], UNKNOWN),
    ],
)
def test_what_other_images_may_show(phrase, description, labels, expected):
    assert relevance([phrase], [[description]], [labels]).tolist() == [[expected]]
