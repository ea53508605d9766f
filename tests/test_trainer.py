"""The training loop: what it learns, what it repeats exactly, and where it starts from."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from matching_data import (
    DIMENSION,
    ENCODER,
    LabelEncoder,
    TableStore,
    hold_out,
    left_and_right,
    random_table,
    untrained,
)

from retrieval_grounding.core.errors import GroundingError, ModelError
from retrieval_grounding.matching import region_source
from retrieval_grounding.matching.batch import RegionTensors
from retrieval_grounding.matching.config import MatcherConfig
from retrieval_grounding.matching.dataset import Examples, batches_by_image
from retrieval_grounding.matching.fit import fit_matcher
from retrieval_grounding.matching.networks import make_model
from retrieval_grounding.matching.options import TrainingOptions
from retrieval_grounding.matching.region_source import StreamedRegions, open_regions
from retrieval_grounding.matching.split import split_examples
from retrieval_grounding.matching.statements import Statement
from retrieval_grounding.matching.trainer import train_model
from retrieval_grounding.matching.vocabulary import frequent_words


def train(table, kind="residual", checkpoint: Path | None = None, regions=None, **options: object):
    examples = left_and_right(table)
    training, validation = hold_out(examples)
    vocabulary = frequent_words(examples.phrases.texts, min_count=1, max_words=100)
    torch.manual_seed(0)
    model = make_model(MatcherConfig(kind, DIMENSION, len(vocabulary), width=48))
    chosen = TrainingOptions(
        **{"epochs": 8, "patience": 99, "batch_size": 48, "lr": 3e-3, "progress": False, **options}
    )
    regions = regions or RegionTensors(table, "cpu")
    history = train_model(model, vocabulary, regions, training, validation, chosen, checkpoint)
    return model, history


def assert_same_weights(first, second, **tolerance):
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, **tolerance)


def test_the_residual_network_learns_what_cosine_cannot_know():
    table = random_table([6] * 300, 1)
    _, residual = train(table, "residual", epochs=5)
    _, concat = train(table, "concat", epochs=4)
    # On average three of an image's six regions have the label.
    assert residual.best.accuracy > 0.9
    # Concat sees no words, and "left" and "right" have the same embedding here: it finds the label
    # (at random among six regions it would be right for a sixth), but cannot tell the two apart.
    assert 0.25 < concat.best.accuracy < 0.55


def test_an_interrupted_run_resumes_to_the_same_result(tmp_path, monkeypatch, caplog):
    table = random_table([5] * 60, 2)
    uninterrupted, history = train(table, epochs=4)

    import retrieval_grounding.matching.trainer as module

    checkpoint = tmp_path / "checkpoint"
    epochs = iter([1, 2])
    original = module._Trainer.train_epoch

    def interrupted(self, *arguments):
        if next(epochs, None) is None:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(module._Trainer, "train_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(table, checkpoint=checkpoint, epochs=4)
    monkeypatch.undo()
    with caplog.at_level(logging.INFO, "retrieval_grounding"):
        resumed, resumed_history = train(table, checkpoint=checkpoint, epochs=4)
    assert [f"training resumes after epoch 2, from {checkpoint}"] == caplog.messages
    assert resumed_history.epochs == history.epochs
    assert_same_weights(uninterrupted, resumed, rtol=0, atol=0)


def test_a_checkpoint_of_a_different_run_is_refused(tmp_path):
    table = random_table([5] * 40, 2)
    checkpoint = tmp_path / "checkpoint"
    train(table, checkpoint=checkpoint, epochs=1)
    with pytest.raises(ModelError, match="other expressions or options"):
        train(table, checkpoint=checkpoint, epochs=2)
    checkpoint.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="not a training checkpoint"):
        train(table, checkpoint=checkpoint, epochs=1)


def test_training_stops_early_and_keeps_the_best_epoch(caplog):
    table = random_table([5] * 40, 2)
    with caplog.at_level(logging.INFO, "retrieval_grounding"):
        _, history = train(table, epochs=30, patience=2, lr=0.0)
    # Nothing changes with a learning rate of 0, so the first epoch stays the best.
    assert (len(history.epochs), history.best.number) == (3, 1)
    [message] = caplog.messages
    assert message == "training stopped early after epoch 3 of 30: the best one was 1"


def test_streamed_regions_equal_resident_ones():
    table = random_table([5, 0, 3, 7], 0)
    store = TableStore(table)
    streamed = StreamedRegions(store, store.keys, "cpu")
    resident = RegionTensors(table, "cpu")
    assert len(streamed) == len(resident) == 4
    for images in ([0, 1, 2, 3], [3, 1], [2]):
        first = resident.batch(torch.tensor(images))
        second = streamed.batch(torch.tensor(images))
        for name, value in vars(first).items():
            if name == "label_names":
                assert second.label_names == value
            else:
                torch.testing.assert_close(getattr(second, name), value, rtol=0, atol=0)


def test_training_from_streamed_regions_gives_the_same_matcher():
    table = random_table([5] * 60, 2)
    store = TableStore(table)
    resident, history = train(table, epochs=2)
    streamed, streamed_history = train(
        table, regions=StreamedRegions(store, store.keys, "cpu"), epochs=2
    )
    assert streamed_history.epochs == history.epochs
    assert_same_weights(resident, streamed, rtol=0, atol=0)


def test_regions_are_streamed_if_they_do_not_fit(monkeypatch, caplog):
    store = TableStore(random_table([2] * 10, 0))  # which says that it takes 1000 bytes
    with caplog.at_level(logging.INFO, "retrieval_grounding"):
        monkeypatch.setattr(region_source, "_free_memory", lambda device: 2001)
        assert isinstance(open_regions(store, store.keys, "cpu"), RegionTensors)
        assert not caplog.messages
        monkeypatch.setattr(region_source, "_free_memory", lambda device: 2000)
        assert isinstance(open_regions(store, store.keys, "cpu"), StreamedRegions)
    [message] = caplog.messages
    assert message.startswith("streaming the regions of 10 images")


def statements_of(table) -> list[Statement]:
    examples = left_and_right(table)
    texts = [examples.phrases.texts[row] for row in examples.phrase]
    return [
        Statement((0, int(image)), text, tuple(box))
        for image, text, box in zip(examples.image, texts, examples.boxes.tolist(), strict=True)
    ]


def test_fine_tuning_starts_from_the_given_matcher():
    table = random_table([5] * 40, 2)
    store, encoder, statements = TableStore(table), LabelEncoder(table), statements_of(table)
    start = untrained()
    before = {name: value.clone() for name, value in start.model.state_dict().items()}

    def fine_tune(lr: float):
        options = TrainingOptions(epochs=1, lr=lr, progress=False)
        return fit_matcher(store, encoder, statements, options=options, start=start).matcher

    unchanged = fine_tune(lr=0.0)
    assert unchanged.vocabulary == start.vocabulary
    assert unchanged.config == start.config
    assert_same_weights(start.model, unchanged.model, rtol=0, atol=0)

    tuned = fine_tune(lr=1e-3)
    assert_same_weights(start.model, tuned.model, rtol=0, atol=0.01)
    assert any(not torch.equal(tuned.model.state_dict()[name], before[name]) for name in before)
    assert all(torch.equal(start.model.state_dict()[name], before[name]) for name in before)


def test_fine_tuning_refuses_a_matcher_of_a_different_encoder():
    table = random_table([5] * 40, 2)
    start = untrained()
    start.encoder = type(ENCODER)("other", "weights-2", "none")
    with pytest.raises(ModelError, match=r"other.*random"):
        fit_matcher(TableStore(table), LabelEncoder(table), statements_of(table), start=start)


def test_phrases_without_a_box_teach_no_places():
    table = random_table([5] * 40, 2)
    examples = left_and_right(table)
    training, validation = hold_out(examples)
    unlocated = Examples(
        training.phrases, training.phrase, training.mirrored, training.image,
        np.full_like(training.boxes, np.nan),
    )  # fmt: skip
    torch.manual_seed(0)
    model = make_model(MatcherConfig("residual", DIMENSION, 0, width=48))
    options = TrainingOptions(epochs=3, progress=False)
    regions = RegionTensors(table, "cpu")
    history = train_model(model, [], regions, unlocated, validation, options)
    assert all(np.isfinite(epoch.loss) for epoch in history.epochs)
    # Which of two dogs is the left one is nowhere to be learned.
    assert history.best.accuracy < 0.6
    with pytest.raises(GroundingError, match="0 with boxes for validation"):
        train_model(model, [], regions, examples, unlocated, options)


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


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"patience": 0}, {"batch_size": 0}, {"lr": -1.0}, {"lr": np.nan},
              {"embedding_jitter": -0.1}, {"negatives": 0}]
)  # fmt: skip
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(GroundingError, match=next(iter(wrong))):
        TrainingOptions(**wrong)


def test_batches_keep_the_examples_of_an_image_together():
    examples = left_and_right(random_table([6] * 50, 0))
    batches = list(batches_by_image(examples, 16, np.random.default_rng(0)))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(examples)))
    images = [set(examples.image[rows].tolist()) for rows in batches]
    assert sum(map(len, images)) == len(set(examples.image.tolist()))
    assert all(16 <= len(rows) < 16 + 4 for rows in batches[:-1])


def test_an_image_with_many_examples_is_met_in_several_batches():
    few = left_and_right(random_table([6] * 50, 0))
    examples = few.take(np.concatenate([np.arange(len(few)), np.repeat(0, 60)]))
    for random in (np.random.default_rng(0), None):
        batches = list(batches_by_image(examples, 40, random))
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(examples)))
        counts = [int((examples.image[rows] == examples.image[0]).sum()) for rows in batches]
        assert sum(counts) >= 60 and (random is None or max(counts) < 40)


def test_a_split_shares_no_image():
    examples = left_and_right(random_table([6] * 50, 0))
    split = split_examples(examples, np.arange(50), np.zeros(50, bool), seed=0)
    parts = (split.training, split.validation, split.calibration)
    assert sum(map(len, parts)) == len(examples)
    images = [set(part.image.tolist()) for part in parts]
    every_image = set(examples.image.tolist())
    assert set.union(*images) == every_image
    assert sum(map(len, images)) == len(every_image)
    assert len(images[1]) == len(images[2]) == round(0.1 * len(every_image))
