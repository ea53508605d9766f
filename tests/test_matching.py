"""The matcher: what it can learn, that it is exact about batching, saving and going on."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_grounding.core.errors import GroundingError, ModelError
from retrieval_grounding.core.phrases import Phrases
from retrieval_grounding.core.region_table import RegionTable
from retrieval_grounding.core.regions import pairwise_iou
from retrieval_grounding.matching import trained
from retrieval_grounding.matching.batch import RegionTensors
from retrieval_grounding.matching.calibration import Calibration, fit_calibration
from retrieval_grounding.matching.dataset import Examples, split_by_image
from retrieval_grounding.matching.geometry import OVERLAP, PLACE_SIZE, places, relations
from retrieval_grounding.matching.matcher import CosineMatcher
from retrieval_grounding.matching.model import MatcherConfig, make_model
from retrieval_grounding.matching.pseudo.templates import mirror_phrase
from retrieval_grounding.matching.train_state import TrainingOptions
from retrieval_grounding.matching.trained import TrainedMatcher
from retrieval_grounding.matching.trainer import train_model
from retrieval_grounding.matching.vocabulary import count_words, frequent_words
from retrieval_grounding.models.encoder import Fingerprint

ENCODER = Fingerprint("random", "weights", "none")
DIMENSION = 32
NAMES = ["dog", "cat", "whole image"]


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


def random_table(counts: list[int], seed: int) -> RegionTable:
    """Regions of dogs and cats, whose embeddings tell the two apart and nothing more."""
    random = np.random.default_rng(seed)
    meanings = unit(random.normal(size=(3, DIMENSION)))
    boxes, labels = [], []
    for count in counts:
        corners = random.uniform(0, 300, (count, 2))
        inside = np.concatenate([corners, corners + random.uniform(20, 100, (count, 2))], axis=1)
        boxes.append(np.concatenate([[[0, 0, 400, 400]], inside]))
        labels.append(np.concatenate([[2], random.integers(0, 2, count)]))
    label = np.concatenate(labels)
    noise = 0.1 * random.normal(size=(len(label), DIMENSION))
    return RegionTable(
        embeddings=unit(meanings[label] + noise).astype(np.float16),
        boxes=np.concatenate(boxes).astype(np.float32),
        scores=np.full(len(label), 0.9, np.float32),
        labels=label,
        colors=random.integers(0, 255, (len(label), 11)).astype(np.uint8),
        offsets=np.cumsum([0, *(count + 1 for count in counts)]),
        label_names=NAMES,
        label_embeddings=meanings * np.array([[1], [1], [0]], np.float32),
    )


def left_and_right(table: RegionTable) -> Examples:
    """Say "the left dog" and so on, wherever an image has several dogs or cats."""
    told = []
    for image in range(len(table.offsets) - 1):
        rows = np.arange(table.image(image).start, table.image(image).stop)
        for code in (0, 1):
            same = rows[table.labels[rows] == code]
            if len(same) > 1:
                centres = table.boxes[same, 0] + table.boxes[same, 2]
                told.append((image, f"the left {NAMES[code]}", same[centres.argmin()]))
                told.append((image, f"{NAMES[code]} on the right", same[centres.argmax()]))
    turned = [mirror_phrase(phrase) for _, phrase, _ in told]
    texts = sorted({*(phrase for _, phrase, _ in told), *turned})
    meanings = [table.label_embeddings[0 if "dog" in text else 1] for text in texts]
    return Examples(
        Phrases(texts, np.array(meanings, np.float32)),
        np.array([texts.index(phrase) for _, phrase, _ in told]),
        np.array([texts.index(phrase) for phrase in turned]),
        np.array([image for image, _, _ in told]),
        np.array([table.boxes[row] / 400 for _, _, row in told], np.float32),
    )


def train(table: RegionTable, kind: str, checkpoint: Path | None = None, **options: object):
    examples = left_and_right(table)
    training, validation = split_by_image(examples, 0.2, seed=0)
    vocabulary = frequent_words(examples.phrases.texts, least=1, most=100)
    torch.manual_seed(0)
    model = make_model(MatcherConfig(kind, DIMENSION, len(vocabulary), width=48))
    chosen = TrainingOptions(
        **{"epochs": 8, "patience": 99, "batch": 48, "rate": 3e-3, "progress": False, **options}
    )
    regions = RegionTensors(table, "cpu")
    run = train_model(model, vocabulary, regions, training, validation, chosen, checkpoint)
    return model, vocabulary, run


def untrained(kind: str = "residual", seed: int = 0) -> TrainedMatcher:
    """A matcher whose residual is not zero, so that it has something to get wrong."""
    torch.manual_seed(seed)
    config = MatcherConfig(kind, DIMENSION, 3, width=48)
    model = make_model(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return TrainedMatcher(model, config, ["left", "the", "the left"], ENCODER)


def phrases(count: int, seed: int = 0) -> Phrases:
    random = np.random.default_rng(seed)
    texts = [" ".join(words) for words in itertools.product(["the", "a"], ["left", "cat", "x"])]
    return Phrases(texts[:count], unit(random.normal(size=(count, DIMENSION))))


def test_a_new_matcher_ranks_by_cosine():
    config = MatcherConfig("residual", DIMENSION, 3, width=48)
    matcher = TrainedMatcher(make_model(config).eval(), config, ["left", "the", "a"], ENCODER)
    table = random_table([4, 1, 7], 0)
    asked = phrases(3)
    scores, cosines = matcher.score(asked, table), CosineMatcher().score(asked, table)
    np.testing.assert_array_equal(scores.argsort(1), cosines.argsort(1))


@pytest.mark.parametrize("kind", ["residual", "concat"])
@settings(max_examples=15, deadline=None)
@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_scores_do_not_depend_on_the_other_images(kind, counts, seed):
    matcher, asked = untrained(kind), phrases(4)
    table = random_table(counts, seed)
    together = matcher.score(asked, table)
    for image in range(len(counts)):
        rows = table.image(image)
        alone = table.of_one_image(rows)
        np.testing.assert_allclose(matcher.score(asked, alone), together[:, rows], atol=1e-4)
        one = Phrases([asked.texts[2]], asked.embeddings[[2]])
        np.testing.assert_allclose(matcher.score(one, alone)[0], together[2, rows], atol=1e-4)


@pytest.mark.parametrize("kind", ["residual", "concat", "cosine"])
@settings(max_examples=15, deadline=None)
@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=40), seed=st.integers(0, 99))
def test_pairs_score_as_all_with_all(kind, counts, seed):
    matcher = CosineMatcher() if kind == "cosine" else untrained(kind)
    asked, table = phrases(4), random_table(counts, seed)
    chosen = np.random.default_rng(seed).integers(0, 4, len(counts))
    every = matcher.score(asked, table)
    own = every[np.repeat(chosen, np.diff(table.offsets)), np.arange(len(table))]
    np.testing.assert_allclose(matcher.score_pairs(asked, table, chosen), own, atol=1e-4)


def test_the_matcher_learns_what_cosine_cannot_know():
    table = random_table([6] * 300, 1)
    _, _, run = train(table, "residual", epochs=12)
    _, _, concat = train(table, "concat", epochs=12)
    print(f"left and right: residual {run.best.accuracy:.2f}, concat {concat.best.accuracy:.2f}")
    assert run.best.accuracy > 0.9  # of about three alike


def test_a_killed_training_ends_like_an_undisturbed_one(tmp_path, monkeypatch):
    table = random_table([5] * 60, 2)
    undisturbed, _, run = train(table, "residual", epochs=4)

    import retrieval_grounding.matching.trainer as module

    checkpoint = tmp_path / "checkpoint"
    epochs = iter([1, 2])
    original = module._Trainer.train_epoch

    def killed(self, *arguments):
        if next(epochs, None) is None:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(module._Trainer, "train_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        train(table, "residual", checkpoint, epochs=4)
    monkeypatch.undo()
    resumed, _, again = train(table, "residual", checkpoint, epochs=4)
    assert again.epochs == run.epochs
    for name, value in undisturbed.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    table = random_table([5] * 40, 2)
    checkpoint = tmp_path / "checkpoint"
    train(table, "residual", checkpoint, epochs=1)
    with pytest.raises(ModelError, match="other expressions or options"):
        train(table, "residual", checkpoint, epochs=2)
    checkpoint.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="no checkpoint"):
        train(table, "residual", checkpoint, epochs=1)


def test_training_needs_expressions():
    table = random_table([1] * 12, 3)
    with pytest.raises(GroundingError, match="too few"):
        train_model(
            make_model(MatcherConfig("concat", DIMENSION, 0)),
            [],
            RegionTensors(table, "cpu"),
            left_and_right(table).take(np.array([], int)),
            left_and_right(table),
            TrainingOptions(),
        )


@pytest.mark.parametrize("kind", ["residual", "concat"])
def test_saved_and_loaded_it_scores_the_same(kind, tmp_path):
    matcher = untrained(kind)
    matcher.calibration = Calibration(2.0, -1.0)
    matcher.trained_on = "nothing"
    matcher.save(tmp_path / "m.safetensors")
    loaded = TrainedMatcher.load(tmp_path / "m.safetensors", "cpu")
    table, asked = random_table([3, 5], 4), phrases(3)
    np.testing.assert_allclose(loaded.score(asked, table), matcher.score(asked, table), atol=0.02)
    assert (loaded.calibration, loaded.trained_on, loaded.name) == (
        matcher.calibration, "nothing", {"residual": "matcher"}.get(kind, kind),
    )  # fmt: skip


@pytest.mark.parametrize(("format", "advice"), [(1, "train it again"), (99, "upgrade")])
def test_other_releases_are_told_apart(format, advice, tmp_path, monkeypatch):
    monkeypatch.setattr(trained, "_FORMAT", format)
    untrained().save(tmp_path / "m.safetensors")
    monkeypatch.undo()
    with pytest.raises(ModelError, match=advice):
        TrainedMatcher.load(tmp_path / "m.safetensors", "cpu")


def test_another_encoder_is_refused_by_name():
    with pytest.raises(ModelError, match=r"random.*other"):
        untrained().check(Fingerprint("other", "weights-2", "none"))


@settings(max_examples=40, deadline=None)
@given(position=st.floats(0, 1), data=st.binary(min_size=1, max_size=20))
def test_a_damaged_matcher_is_one_sentence(tmp_path_factory, position, data):
    path = tmp_path_factory.mktemp("matcher") / "m.safetensors"
    untrained().save(path)
    content = bytearray(path.read_bytes())
    start = int(position * 400)  # the description comes first; weights may have any value
    content[start : start + len(data)] = data
    path.write_bytes(bytes(content))
    try:
        TrainedMatcher.load(path, "cpu")
    except ModelError as error:
        assert "\n" not in str(error).split("(")[0]


@settings(max_examples=30, deadline=None)
@given(counts=st.lists(st.integers(1, 8), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_places_follow_a_mirror(counts, seed):
    batch = RegionTensors(random_table(counts, seed), "cpu").batch(torch.arange(len(counts)))
    turned = batch.mirrored(torch.ones(len(counts), dtype=torch.bool))
    here = places(batch, relations(batch))[:, batch.present]
    there = places(turned, relations(turned))[:, batch.present]
    assert len(here) == PLACE_SIZE
    assert torch.isfinite(here).all()
    torch.testing.assert_close(here[6:8], there[6:8])  # sizes
    # Ranks from the left become ranks from the right.
    torch.testing.assert_close(here[8], there[12])
    twice = turned.mirrored(torch.ones(len(counts), dtype=torch.bool))
    torch.testing.assert_close(twice.boxes, batch.boxes)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 8), seed=st.integers(0, 99))
def test_overlaps_are_those_of_the_regions_module(count, seed):
    table = random_table([count], seed)
    batch = RegionTensors(table, "cpu").batch(torch.tensor([0]))
    expected = pairwise_iou(table.boxes, table.boxes)
    np.testing.assert_allclose(relations(batch)[OVERLAP, 0].numpy(), expected, atol=1e-5)


def test_words_and_pairs_of_words_are_counted():
    vocabulary = frequent_words(["the left dog", "the left cat", "a dog"], least=2, most=10)
    assert vocabulary == ["dog", "left", "the", "the left"]
    numbers, starts = count_words(
        ["left left dog", "", "unknown the"],
        {word: number for number, word in enumerate(vocabulary)},
    )
    assert (numbers.tolist(), starts.tolist()) == ([1, 1, 0, 2], [0, 3, 3])


@pytest.mark.parametrize("scale", [0.02, 1.0, 50.0])
def test_calibration_gives_the_frequencies_back(scale):
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, 20_000)
    right = random.random(20_000) < 1 / (1 + np.exp(-logits))
    calibration = fit_calibration((logits * scale).astype(np.float32), right)
    assert calibration is not None
    probabilities = calibration((logits * scale).astype(np.float32))
    for low in (0.1, 0.5, 0.8):
        inside = (probabilities >= low) & (probabilities < low + 0.1)
        assert abs(right[inside].mean() - probabilities[inside].mean()) < 0.03


@pytest.mark.parametrize("right", [[True, True], [False, False], [True, False]])
def test_no_calibration_where_none_is_possible(right):
    assert fit_calibration(np.array([0.1, 0.9], np.float32), np.array(right)) is None
