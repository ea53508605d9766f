"""A padded step of training, as a GPU replays it, computes what the plain step computes."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from matching_data import DIMENSION, left_and_right, random_table

from retrieval_grounding.matching.batch import RegionTensors
from retrieval_grounding.matching.config import MatcherConfig
from retrieval_grounding.matching.dataset import batches_by_image
from retrieval_grounding.matching.graph_step import GraphSteps, StepBuffer
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


def some_examples(contrasts: bool = True):
    """Images of different sizes, and examples some of which lack a box or a mirrored phrase."""
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
    return table, examples, list(batches_by_image(examples, 24, random))


def prepare(table, examples, options, kind="residual"):
    """A trainer, and the same training with everything on the device."""
    vocabulary = frequent_words(examples.phrases.texts, min_count=1, max_words=100)
    torch.manual_seed(0)
    model = make_model(MatcherConfig(kind, DIMENSION, len(vocabulary), width=48)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    regions = RegionTensors(table, "cpu")
    trainer = _Trainer(vocabulary, regions, examples, options, CPU)
    phrases = trainer.table.take(np.arange(len(examples.phrases)))
    meanings = trainer._meanings(table.label_names)
    steps = ResidentSteps(model, regions, phrases, meanings, trainer.mentions, options)
    return model, trainer, steps


@pytest.mark.parametrize("kind", ["residual", "concat"])
@pytest.mark.parametrize("jitter", [0.0, 0.35])
@pytest.mark.parametrize("contrasts", [True, False])
def test_padding_changes_neither_loss_nor_gradients(kind, jitter, contrasts):
    table, examples, batches = some_examples(contrasts)
    options = TrainingOptions(embedding_jitter=jitter, negatives=5)
    model, trainer, steps = prepare(table, examples, options, kind)
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


def test_a_checkpoint_of_a_gpu_resumes_on_a_cpu(tmp_path):
    model = make_model(MatcherConfig("concat", DIMENSION, 3, width=48))
    saved, resumed = (TrainingState(model, TrainingOptions(), "") for _ in range(2))
    own = [dict(group, params=[]) for group in resumed.optimizer.param_groups]
    for group in saved.optimizer.param_groups:
        group.update(lr=torch.tensor(0.5), fused=True, capturable=True)
    saved.set_lr(0.25)
    assert saved.optimizer.param_groups[0]["lr"] == 0.25
    sum(parameter.sum() for parameter in model.parameters()).backward()
    saved.optimizer.step()
    saved.save(tmp_path / "checkpoint")
    resumed.load(tmp_path / "checkpoint")
    assert [dict(group, params=[]) for group in resumed.optimizer.param_groups] == own
    resumed.set_lr(0.125)
    assert resumed.optimizer.param_groups[0]["lr"] == 0.125
    resumed.optimizer.step()


@pytest.mark.parametrize("fails", [True, False])
def test_steps_are_recorded_after_some_plain_ones_or_stay_plain(fails, monkeypatch, caplog):
    """With a recording that executes what it records, and a replay of nothing."""
    graphs = []

    @contextlib.contextmanager
    def record(graph, stream):
        if fails:
            raise RuntimeError("no such operation")
        graphs.append(graph)
        yield

    for name, value in {
        "Stream": MagicMock(), "current_stream": MagicMock(), "CUDAGraph": MagicMock(),
        "stream": lambda _: contextlib.nullcontext(), "graph": record,
        "default_generators": [MagicMock()],
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    table, examples, batches = some_examples()
    losses = []
    for graphed in (True, False):
        model, trainer, steps = prepare(table, examples, TrainingOptions())
        state = TrainingState(model, TrainingOptions(lr=1e-3), "")
        recorded = GraphSteps(state, steps)
        recorded.expect(examples, batches)
        random = np.random.default_rng(0)
        with caplog.at_level("INFO", "retrieval_grounding"):
            losses.append(
                [
                    recorded.run(examples.take(rows), random)
                    if graphed
                    else trainer._train_plainly(state, examples.take(rows), random)
                    for rows in batches[: 6 if fails else 4]
                ]
            )
    torch.testing.assert_close(*map(torch.stack, losses), rtol=1e-3, atol=1e-4)
    message = "training steps are not recorded as a CUDA graph: no such operation"
    assert caplog.messages == ([message] if fails else [])
    assert [graph.replay.call_count for graph in graphs] == ([] if fails else [1])
