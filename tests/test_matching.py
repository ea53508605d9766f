"""Matchers: scores, files, geometry and vocabulary."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matching_data import DIMENSION, ENCODER, random_phrases, random_table, untrained

from retrieval_grounding.core.errors import ModelError
from retrieval_grounding.core.phrases import Phrases
from retrieval_grounding.core.regions import pairwise_iou
from retrieval_grounding.matching import trained
from retrieval_grounding.matching.batch import RegionTensors
from retrieval_grounding.matching.blend import BlendMatcher
from retrieval_grounding.matching.boxes import box_iou, mirror_boxes
from retrieval_grounding.matching.calibration import Calibration
from retrieval_grounding.matching.config import MatcherConfig
from retrieval_grounding.matching.cosine_scale import cosine_scale
from retrieval_grounding.matching.geometry import (
    OVERLAP,
    POSITION_FEATURES,
    position_features,
    relation_features,
)
from retrieval_grounding.matching.grouping import group_images
from retrieval_grounding.matching.label_matcher import LabelMatcher
from retrieval_grounding.matching.language.parts import Role
from retrieval_grounding.matching.load import default_matcher
from retrieval_grounding.matching.matcher import CosineMatcher, Matcher
from retrieval_grounding.matching.networks import make_model
from retrieval_grounding.matching.phrase_batch import make_phrase_batch
from retrieval_grounding.matching.residual_model import set_cosine_scale
from retrieval_grounding.matching.trained import TrainedMatcher
from retrieval_grounding.matching.vocabulary import (
    PADDING,
    UNKNOWN,
    frequent_words,
    number_words,
)
from retrieval_grounding.models.encoder import Fingerprint


@pytest.mark.parametrize("dimension", [DIMENSION, 0])
def test_a_new_matcher_ranks_regions_of_a_label_by_cosine(dimension):
    config = MatcherConfig("residual", dimension, 3, width=48)
    matcher = TrainedMatcher(make_model(config).eval(), config, ["left", "the", "a"], ENCODER)
    table, phrases = random_table([4, 1, 7], 0), random_phrases(3)
    scores, cosines = matcher.score(phrases, table), CosineMatcher().score(phrases, table)
    for label in range(3):
        same = table.labels == label
        np.testing.assert_array_equal(scores[:, same].argsort(1), cosines[:, same].argsort(1))
    unlabeled = replace(table, label_embeddings=np.zeros_like(table.label_embeddings))
    scores = matcher.score(phrases, unlabeled)
    np.testing.assert_array_equal(scores.argsort(1), cosines.argsort(1))


def matcher_of(kind: str) -> Matcher:
    match kind:
        case "cosine":
            return CosineMatcher()
        case "cosine+label":
            return LabelMatcher(0.5)
        case "blend":
            return BlendMatcher(untrained(), LabelMatcher(0.5), 0.3, (2.0, 0.1))
    return untrained(kind)


KINDS = ["residual", "concat", "cosine", "cosine+label", "blend"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_scores_do_not_depend_on_the_other_images(kind, counts, seed):
    matcher, phrases = matcher_of(kind), random_phrases(4)
    table = random_table(counts, seed)
    together = matcher.score(phrases, table)
    for image in range(len(counts)):
        rows = table.image(image)
        alone = table.of_one_image(rows)
        np.testing.assert_allclose(matcher.score(phrases, alone), together[:, rows], atol=1e-4)
        one = Phrases([phrases.texts[2]], phrases.embeddings[[2]])
        np.testing.assert_allclose(matcher.score(one, alone)[0], together[2, rows], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=40), seed=st.integers(0, 99))
def test_pairs_score_as_in_the_full_product(kind, counts, seed):
    matcher = matcher_of(kind)
    phrases, table = random_phrases(4), random_table(counts, seed)
    phrase_rows = np.random.default_rng(seed).integers(0, 4, len(counts))
    full = matcher.score(phrases, table)
    expected = full[np.repeat(phrase_rows, np.diff(table.offsets)), np.arange(len(table))]
    pairs = matcher.score_pairs(phrases, table, phrase_rows)
    np.testing.assert_allclose(pairs, expected, atol=1e-4)


@given(counts=st.lists(st.integers(1, 300), min_size=1, max_size=200))
def test_groups_hold_every_image_once_with_similar_counts(counts):
    counts = np.array(counts)
    groups = group_images(counts)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(counts)))
    for group, following in pairwise(groups):
        assert counts[group].max() <= counts[following].min()
    assert len(groups) >= 2 or len(counts) < 32


@pytest.mark.parametrize("kind", ["residual", "concat"])
def test_saved_and_loaded_it_scores_the_same(kind, tmp_path):
    matcher = untrained(kind)
    matcher.calibration = Calibration(2.0, -1.0)
    matcher.trained_on = "nothing"
    matcher.save(tmp_path / "m.safetensors")
    loaded = TrainedMatcher.load(tmp_path / "m.safetensors", "cpu")
    table, phrases = random_table([3, 5], 4), random_phrases(3)
    np.testing.assert_allclose(
        loaded.score(phrases, table), matcher.score(phrases, table), atol=0.02
    )
    assert (loaded.calibration, loaded.trained_on, loaded.name) == (
        matcher.calibration, "nothing", {"residual": "matcher"}.get(kind, kind),
    )  # fmt: skip


@pytest.mark.parametrize(("format", "advice"), [(1, "train it again"), (99, "upgrade")])
def test_a_file_of_a_different_release_is_refused(format, advice, tmp_path, monkeypatch):
    monkeypatch.setattr(trained, "MATCHER_FORMAT", format)
    untrained().save(tmp_path / "m.safetensors")
    monkeypatch.undo()
    with pytest.raises(ModelError, match=advice):
        TrainedMatcher.load(tmp_path / "m.safetensors", "cpu")


def test_loading_a_matcher_is_quick_and_draws_no_random_numbers():
    code = (
        "import sys, torch\n"
        "from retrieval_grounding.matching.trained import TrainedMatcher\n"
        "from retrieval_grounding.models.presets import bundled_path\n"
        "state, modules = torch.random.get_rng_state(), set(sys.modules)\n"
        "TrainedMatcher.load(bundled_path('matcher'), 'cpu')\n"
        "assert torch.equal(state, torch.random.get_rng_state())\n"
        "print(len(set(sys.modules) - modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50  # some of PyTorch's features import a thousand


def test_a_different_encoder_is_refused_by_name():
    with pytest.raises(ModelError, match=r"random.*other"):
        untrained().check(Fingerprint("other", "weights-2", "none"))


def test_without_a_fitting_matcher_regions_are_ranked_by_cosine(caplog):
    with caplog.at_level(logging.INFO, "retrieval_grounding"):
        matcher = default_matcher(ENCODER, "cpu")
    assert matcher == CosineMatcher()
    [message] = caplog.messages
    assert "random" in message and "cosine" in message


@settings(max_examples=60, deadline=None)
@given(position=st.floats(0, 1), data=st.binary(min_size=1, max_size=20))
def test_a_damaged_description_is_refused_or_leaves_the_network_unchanged(
    tmp_path_factory, position, data
):
    path = tmp_path_factory.mktemp("matcher") / "m.safetensors"
    matcher = untrained()
    matcher.calibration = Calibration(2.0, -1.0)
    matcher.save(path)
    intact = TrainedMatcher.load(path, "cpu")
    content = bytearray(path.read_bytes())
    description_end = content.index(b'"},"')  # the tensors' names and shapes come after it
    start = int(position * (description_end - len(data)))
    content[start : start + len(data)] = data
    path.write_bytes(bytes(content))
    try:
        loaded = TrainedMatcher.load(path, "cpu")
    except ModelError as error:
        assert str(error).startswith(f"{path} is ")
        assert str(error).endswith(("'retrieval-grounding train'", "upgrade retrieval_grounding"))
        return
    weights = loaded.model.state_dict()
    for name, value in intact.model.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=0)
    table, phrases = random_table([3, 5], 4), random_phrases(3)
    scores = loaded.score(phrases, table)
    assert np.isfinite(scores).all()
    if loaded.vocabulary == intact.vocabulary:
        np.testing.assert_array_equal(scores, intact.score(phrases, table))


def test_a_vocabulary_that_does_not_fit_the_network_is_refused(tmp_path):
    matcher = untrained()
    matcher.vocabulary = [*matcher.vocabulary, "one more"]
    matcher.save(tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match="4 words for a network with 3"):
        TrainedMatcher.load(tmp_path / "m.safetensors", "cpu")


def test_boxes_are_mirrored_left_to_right():
    box = torch.tensor([[0.125, 0.25, 0.5, 0.75]])
    assert mirror_boxes(box).tolist() == [[0.5, 0.25, 0.875, 0.75]]


@settings(max_examples=30, deadline=None)
@given(counts=st.lists(st.integers(1, 8), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_position_features_follow_a_mirror(counts, seed):
    batch = RegionTensors(random_table(counts, seed), "cpu").batch(torch.arange(len(counts)))
    every_image = torch.ones(len(counts), dtype=torch.bool)
    mirrored = batch.mirrored(every_image)
    original = position_features(batch, relation_features(batch))[:, batch.present]
    flipped = position_features(mirrored, relation_features(mirrored))[:, batch.present]
    assert len(original) == POSITION_FEATURES
    assert torch.isfinite(original).all()
    torch.testing.assert_close(original[6:8], flipped[6:8])  # sizes
    # Ranks from the left become ranks from the right.
    torch.testing.assert_close(original[8], flipped[12])
    torch.testing.assert_close(mirrored.mirrored(every_image).boxes, batch.boxes)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 8), seed=st.integers(0, 99))
def test_every_iou_agrees_with_pairwise_iou(count, seed):
    table = random_table([count], seed)
    batch = RegionTensors(table, "cpu").batch(torch.tensor([0]))
    expected = pairwise_iou(table.boxes, table.boxes)
    relations = relation_features(batch)
    np.testing.assert_allclose(relations[OVERLAP, 0].numpy(), expected, atol=1e-5)
    regions_of_targets = batch.boxes.expand(count + 1, -1, -1)
    iou = box_iou(batch.boxes[0], regions_of_targets)
    np.testing.assert_allclose(iou.numpy(), expected, atol=1e-5)


def test_words_are_numbered_with_their_roles():
    vocabulary = frequent_words(["the left dog", "the left cat", "a dog"], 2, 10)
    assert vocabulary == ["dog", "left", "the"]
    texts = ["left left dog", "unknown the"]
    batch = make_phrase_batch(Phrases(texts, np.eye(2, dtype=np.float32)), number_words(vocabulary))
    assert batch.words.tolist() == [[3, 3, 2], [UNKNOWN, 4, PADDING]]
    assert batch.roles[0].tolist() == [Role.PLACE, Role.PLACE, Role.NOUN]


def test_a_matcher_for_any_encoder_standardizes_the_cosines_of_each():
    """Embeddings of a second encoder, whose cosines are all higher and closer together."""
    table, phrases = random_table([4, 6, 5], 0), random_phrases(4)
    matcher = untrained(dimension=0)
    own = matcher.for_encoder(ENCODER, cosine_scale(table))
    assert own is matcher  # trained on it, so its own scale is kept
    set_cosine_scale(matcher.model, cosine_scale(table))

    def embed_anew(vectors):
        # A common direction and an isometry: cosines c become 0.7 + 0.3 c.
        known = np.asarray(vectors, np.float32)
        added = np.full((*known.shape[:-1], 1), np.sqrt(0.7), np.float32)
        return np.concatenate([np.sqrt(0.3) * known[..., ::-1], added], axis=-1).astype(np.float32)

    named = table.label_embeddings.any(1, keepdims=True)
    other_table = replace(
        table,
        embeddings=embed_anew(table.embeddings),
        label_embeddings=embed_anew(table.label_embeddings) * named,
    )
    other_phrases = Phrases(phrases.texts, embed_anew(phrases.embeddings))
    other = Fingerprint("other", "weights-2", "none")
    with pytest.raises(ModelError, match=r"random.*other"):
        untrained().for_encoder(other, cosine_scale(other_table))
    moved = matcher.for_encoder(other, cosine_scale(other_table))
    np.testing.assert_allclose(
        moved.score(other_phrases, other_table), matcher.score(phrases, table), atol=0.05
    )
    # The one that was given keeps its scale.
    assert matcher.encoder == ENCODER
    before = matcher.model.similar.statistics
    assert not torch.allclose(moved.model.similar.statistics, before)


def test_a_scale_needs_a_name_and_two_regions():
    table = random_table([3], 0)
    assert cosine_scale(table).shape == (4,)
    one_name = cosine_scale(replace(table, labels=np.array([2, 0, 0, 0])))
    assert one_name[:2].tolist() == one_name[2:].tolist()
    assert cosine_scale(replace(table, labels=np.array([2, 2, 2, 2]))) is None
    groups = replace(table, label_names=["dog", "dog group", "whole image"])
    assert cosine_scale(groups) is None
