"""Losses and augmentation, on cases small enough to compute by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matching_data import left_and_right, random_table
from torch.nn import functional

from retrieval_grounding.matching.augment import (
    Confusion,
    Jitter,
    confuse_labels,
    draw_confusion,
    draw_dropped_regions,
    draw_jitter,
    drop_regions,
    jitter_embeddings,
)
from retrieval_grounding.matching.batch import RegionTensors
from retrieval_grounding.matching.boxes import box_iou
from retrieval_grounding.matching.losses import (
    POSITIVE_IOU,
    across_images_loss,
    bce_loss,
    contrast_loss,
    listwise_loss,
    training_loss,
)

INF = torch.inf


def softplus(value):
    return math.log(1 + math.exp(value))


def test_the_listwise_loss_is_the_cross_entropy_to_overlapping_regions():
    logits = torch.tensor([[0.0, math.log(3), -INF], [0.0, 0.0, 0.0]])
    iou = torch.tensor([[0.1, 0.9, 0.0], [0.0, 0.0, POSITIVE_IOU]])
    # The second region has probability 3/4; in the second example no region is a positive.
    torch.testing.assert_close(listwise_loss(logits, iou), torch.tensor([math.log(4 / 3), 0.0]))
    # Two equal positives share the target distribution.
    equal = listwise_loss(torch.tensor([[0.0, math.log(3)]]), torch.tensor([[0.8, 0.8]]))
    assert equal.item() == pytest.approx(-0.5 * (math.log(1 / 4) + math.log(3 / 4)))


def test_across_images_all_regions_of_others_are_negatives():
    logits = torch.tensor([[0.0, math.log(3), -INF], [0.0, 0.0, 0.0], [0.0, math.log(3), -INF]])
    iou = torch.tensor([[0.1, 0.9, 0.0], [0.0, 0.0, POSITIVE_IOU], [0.0, 0.0, 0.0]])
    located = torch.tensor([True, True, False])
    others = torch.tensor([[math.log(4), -INF], [0.0, 0.0], [math.log(8), math.log(4)]])
    # 3 of 4 + 4; no region is a positive; without a box, all 4 of 4 + 8 + 4.
    expected = torch.tensor([math.log(8 / 3), 0.0, math.log(4)])
    torch.testing.assert_close(across_images_loss(logits, others, iou, located), expected)
    nothing = torch.full((3, 0), -INF)
    alone = across_images_loss(logits, nothing, iou, located)
    torch.testing.assert_close(alone[:2], listwise_loss(logits, iou)[:2])
    assert alone[2] == 0


def test_a_false_phrase_must_score_less_where_the_true_one_is_right():
    logits = torch.tensor([[1.0, 2.0, 5.0], [0.0, 0.0, -INF], [1.0, 1.0, 1.0]])
    false = torch.tensor([[9.0, 0.5, 9.0], [math.log(3), 0.0, -INF], [5.0, 5.0, 5.0]])
    iou = torch.tensor([[0.1, 0.9, 0.6], [0.0, 0.0, 0.0], [0.1, 0.2, 0.3]])
    losses = contrast_loss(logits, false, iou, torch.tensor([True, False, True]))
    # The best region; the image as a whole; a target that was not detected.
    expected = [softplus(-1.5), softplus(math.log(2)), 0.0]
    assert losses.tolist() == pytest.approx(expected)


def test_the_bce_loss_sums_over_regions_and_counts_negatives():
    logits = torch.tensor([[2.0, -1.0, -INF]])
    iou = torch.tensor([[0.9, 0.55, 0.0]])  # a full positive, half a positive, padding
    half = 0.5 * softplus(1.0) + 0.5 * softplus(-1.0)
    present = torch.tensor([[True, True, False]])
    assert bce_loss(logits, present, iou).item() == pytest.approx(softplus(-2.0) + half)
    # With an image that does not show the target every region is a negative.
    assert bce_loss(logits, present).item() == pytest.approx(softplus(2.0) + softplus(-1.0))


def test_the_training_loss_and_its_gradient_are_finite_and_know_the_pairs():
    """Two examples, the second without a box; a false phrase for the first; three other images."""
    logits = torch.tensor(
        [[3.0, 0, -INF], [1, 0, 0], [-3, 0, -INF], [-9, -9, -9], [-9, -INF, -INF], [-9, -9, -INF]],
        requires_grad=True,
    )
    iou = torch.tensor([[1.0, 0, 0], [0, 0, 0]])
    located = torch.tensor([True, False])
    foreign = torch.tensor([[True, False], [True, True]])
    chosen = (iou, located, logits.detach().isfinite(), torch.tensor([0]), foreign)
    good = training_loss(logits, *chosen)
    good.backward()
    assert torch.isfinite(logits.grad).all()
    # The sign of what each pair teaches: up for what is right, down for everything else.
    assert logits.grad[0, 0] < 0 < logits.grad[0, 1]
    assert (logits.grad[1] < 0).any() and logits.grad[2, 0] > 0
    assert (logits.grad[3:][logits[3:].isfinite()] > 0).all()
    with torch.no_grad():
        for pair, value in ((0, 0.0), (2, 3.0), (3, 3.0), (5, 3.0)):
            worse = logits.clone()
            worse[pair, 0] = value
            assert training_loss(worse, *chosen) > good + 0.01


def test_dropped_regions_are_no_positives_and_no_whole_images():
    table = random_table([20] * 30, 0)
    examples = left_and_right(table)
    images = RegionTensors(table, "cpu").batch(torch.arange(30))
    image_index = torch.from_numpy(examples.image)
    iou = box_iou(torch.from_numpy(examples.boxes), images.boxes[image_index])
    own = functional.one_hot(image_index, 30).float()
    dropped = draw_dropped_regions((30, 21), np.random.default_rng(0))
    kept = drop_regions(images, iou, own, torch.from_numpy(dropped)).present
    assert kept[:, 0].all()
    assert kept[image_index][iou >= POSITIVE_IOU].all()
    assert 0.05 < 1 - kept.float().mean().item() < 0.12


def test_jittered_embeddings_stay_unit_length_and_padding_stays_zero():
    images = RegionTensors(random_table([5, 2, 8], 0), "cpu").batch(torch.arange(3))
    drawn = draw_jitter((3, 9), 18, 0.35, np.random.default_rng(0))
    jittered = jitter_embeddings(images, Jitter(*map(torch.from_numpy, drawn)))
    norms = jittered.embeddings.norm(dim=-1)
    torch.testing.assert_close(norms[images.present], torch.ones(18))
    assert not norms[~images.present].any()
    cosines = (jittered.embeddings * images.embeddings).sum(-1)[images.present]
    assert 0.7 < cosines.mean() < 0.9999


def test_confused_labels_are_those_of_other_things():
    table = random_table([20] * 60, 0)
    images = RegionTensors(table, "cpu").batch(torch.arange(60))
    drawn = draw_confusion((60, 21), 60 * 20, np.random.default_rng(0))
    confused = confuse_labels(images, Confusion(*map(torch.from_numpy, drawn))).labels
    changed = confused != images.labels
    assert not changed[:, 0].any() and (confused[:, 1:] < 2).all()  # neither is a whole image
    assert 0.1 < changed.any(1).float().mean() < 0.5
    assert changed[changed.any(1)].float().mean() < 0.4
