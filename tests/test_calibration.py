"""Calibration: probabilities from scores, and the predictions that they are fitted to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matching_data import TableStore, random_table, unit

from retrieval_grounding.core.phrases import Phrases
from retrieval_grounding.core.regions import pairwise_iou
from retrieval_grounding.matching.calibrate import best_region_scores, calibrate
from retrieval_grounding.matching.calibration import fit_calibration
from retrieval_grounding.matching.dataset import Examples
from retrieval_grounding.matching.matcher import CosineMatcher


@pytest.mark.parametrize("scale", [0.02, 1.0, 50.0])
def test_probabilities_are_the_observed_frequencies(scale):
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, 20_000)
    correct = random.random(20_000) < 1 / (1 + np.exp(-logits))
    calibration = fit_calibration((logits * scale).astype(np.float32), correct)
    assert calibration is not None
    probabilities = calibration((logits * scale).astype(np.float32))
    for low in (0.1, 0.5, 0.8):
        inside = (probabilities >= low) & (probabilities < low + 0.1)
        assert abs(correct[inside].mean() - probabilities[inside].mean()) < 0.03


@pytest.mark.parametrize("correct", [[True, True], [False, False], [True, False]])
def test_no_calibration_where_none_is_possible(correct):
    assert fit_calibration(np.array([0.1, 0.9], np.float32), np.array(correct)) is None


def exact_examples(table, regions):
    """Phrases whose embeddings are those of given regions: (image, number in the image)."""
    rows = [table.image(image).start + number for image, number in regions]
    phrases = Phrases([str(row) for row in rows], unit(table.embeddings[rows].astype(np.float32)))
    numbers = np.arange(len(rows))
    images = np.array([image for image, _ in regions])
    return Examples(phrases, numbers, numbers, images, table.boxes[rows] / 400)


def test_the_best_region_is_scored_in_the_given_image():
    table = random_table([4, 4, 4], 0)
    store, examples = TableStore(table), exact_examples(table, [(0, 1), (1, 3), (2, 2)])
    nothing_removed = np.zeros(3, bool)
    cosines = CosineMatcher().score(examples.phrases, table)

    images = np.array([0, 1, 2])
    scores, iou = best_region_scores(
        CosineMatcher(), store, store.keys, examples, images, nothing_removed
    )
    np.testing.assert_allclose(scores, 1, atol=2e-3)  # the region that the phrase was made from
    np.testing.assert_allclose(iou, 1, atol=1e-6)

    images = np.array([1, 2, 0])
    scores, iou = best_region_scores(
        CosineMatcher(), store, store.keys, examples, images, nothing_removed
    )
    best = [cosines[row, table.image(image)].max() for row, image in enumerate(images)]
    np.testing.assert_allclose(scores, best, rtol=1e-6)
    assert iou.tolist() == [0, 0, 0]


def test_an_undetected_target_leaves_the_next_best_region():
    table = random_table([4, 4], 0)
    store, examples = TableStore(table), exact_examples(table, [(0, 1), (1, 3)])
    scores, iou = best_region_scores(
        CosineMatcher(), store, store.keys, examples, examples.image, np.array([True, False])
    )
    rows = table.image(0)
    cosines = CosineMatcher().score(examples.phrases, table)[0, rows]
    remaining = pairwise_iou(examples.boxes[:1] * 400, table.boxes[rows])[0] < 0.5
    assert not remaining[1]
    np.testing.assert_allclose(scores[0], cosines[remaining].max(), rtol=1e-6)
    assert iou[0] < 0.5
    assert iou[1] == pytest.approx(1)


def test_a_matcher_is_calibrated_on_own_and_other_images():
    # Every image has something of its own, so the cosine says whether the phrase is about it.
    table = random_table([3] * 60, 0)
    own = unit(np.random.default_rng(1).normal(size=(len(table), table.embeddings.shape[1])))
    table = replace(table, embeddings=own)
    store = TableStore(table)
    examples = exact_examples(table, [(image, 1 + image % 3) for image in range(60)])
    calibration = calibrate(CosineMatcher(), store, store.keys, examples, 0, undetected=0.0)
    assert calibration is not None
    unmatched, matched = calibration(np.array([0.3, 1.0], np.float32))
    assert unmatched < 0.1
    assert matched > 0.9


def test_examples_of_one_image_cannot_calibrate():
    table = random_table([4], 0)
    store, examples = TableStore(table), exact_examples(table, [(0, 1), (0, 2)])
    assert calibrate(CosineMatcher(), store, store.keys, examples, 0, undetected=0.5) is None
