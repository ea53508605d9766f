"""A padded step of training, as a GPU replays it, computes what the plain step computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matching_data import DIMENSION, left_and_right, random_table

from retrieval_grounding.matching.batch import RegionTensors
from retrieval_grounding.matching.config import MatcherConfig
from retrieval_grounding.matching.dataset import batches_by_image
from retrieval_grounding.matching.graph_step import StepBuffer
from retrieval_grounding.matching.networks import make_model
from retrieval_grounding.matching.options import TrainingOptions
from retrieval_grounding.matching.resident_step import ResidentSteps
from retrieval_grounding.matching.rows import _Rows, take_rows
from retrieval_grounding.matching.train_state import TrainingState, _follow
from retrieval_grounding.matching.trainer import _Trainer
from retrieval_grounding.matching.vocabulary import frequent_words

CPU = torch.device("cpu")


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["residual", "concat"])
@pytest.mark.parametrize("jitter", [0.0, 0.35])
@pytest.mark.parametrize("contrasts", [True, False])
def test_padding_changes_neither_loss_nor_gradients(kind, jitter, contrasts):
    random = np.random.default_rng(0)
    table = random_table([5, 0, 3, 7, 9, 4] * 12, 1)
    examples = left_and_right(table)
    count, phrases = len(examples), len(examples.phrases)
    boxes = examples.boxes.copy()
    boxes[random.random(count) < 0.2] = np.nan
    mirrored = np.where(random.random(count) < 0.3, -1, examples.mirrored)
    examples = replace(examples, boxes=boxes, mirrored=mirrored)
    if contrasts:
        false = np.where(random.random(count) < 0.7, random.integers(0, phrases, count), -1)
        examples = replace(examples, contrast=false, mirrored_contrast=np.flip(false))
    vocabulary = frequent_words(examples.phrases.texts, min_count=1, max_words=100)
    torch.manual_seed(0)
    model = make_model(MatcherConfig(kind, DIMENSION, len(vocabulary), width=48)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    options = TrainingOptions(embedding_jitter=jitter, negatives=5)
    regions = RegionTensors(table, "cpu")
    trainer = _Trainer(vocabulary, regions, examples, options, CPU)
    steps = ResidentSteps(
        model,
        regions,
        trainer.table.take(np.arange(phrases)),
        trainer._meanings(table.label_names),
        trainer.mentions,
        options,
    )
    batches = list(batches_by_image(examples, 24, random))
    assert len(batches[-1]) < 24 <= len(batches[0])
    size = steps.size(examples, batches)
    size = replace(size, n=size.n + 3)
    buffer = None
    for seed, rows in enumerate(batches):
        batch = examples.take(rows)
        plain = trainer._training_loss(model, batch, np.random.default_rng(seed))
        expected = gradients(model, plain)
        step = steps.draw(batch, np.random.default_rng(seed))
        buffer = buffer or StepBuffer(step, size, CPU)
        assert buffer.size.joined(step.size) == buffer.size
        buffer.copy(step)
        padded = steps.loss(buffer.step)
        torch.testing.assert_close(padded, plain, rtol=1e-5, atol=1e-6)
        for name, gradient in gradients(model, padded).items():
            torch.testing.assert_close(
                gradient, expected[name], rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_the_gradient_of_rows_taken_several_times_is_their_sum():
    values = torch.randn(5, 3, 2, requires_grad=True)
    index = torch.tensor([4, 0, 4, 4, 2])
    weights = torch.randn(5, 3, 2)
    taken = _Rows.apply(values, index)
    assert torch.equal(taken, values[index])
    (gradient,) = torch.autograd.grad((taken * weights).sum(), values)
    (expected,) = torch.autograd.grad((take_rows(values, index) * weights).sum(), values)
    torch.testing.assert_close(gradient, expected)


def test_averages_on_a_gpu_are_those_of_a_cpu():
    torch.manual_seed(0)
    model = make_model(MatcherConfig("residual", DIMENSION, 3, width=48))
    first, second = (TrainingState(model, TrainingOptions(), "").averages for _ in range(2))
    for _ in range(4):
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter)
        first.update_parameters(model)
        with torch.no_grad():
            _follow(second, model)
        torch.testing.assert_close(second.state_dict(), first.state_dict())
