"""Losses and negatives, on cases small enough to compute by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from matching_data import left_and_right, random_table

from retrieval_grounding.matching.augment import drop_regions, jitter_embeddings
from retrieval_grounding.matching.batch import RegionTensors
from retrieval_grounding.matching.boxes import box_iou
from retrieval_grounding.matching.losses import (
    POSITIVE_IOU,
    bce_loss,
    distillation_loss,
    listwise_loss,
)
from retrieval_grounding.matching.negatives import hard_negatives, random_negatives

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


def test_the_bce_loss_sums_over_regions_and_counts_negatives():
    logits = torch.tensor([[2.0, -1.0, -INF], [0.5, -3.0, 1.0]])
    iou = torch.tensor([[0.9, 0.55, 0.0]])  # a full positive, half a positive, padding
    present = torch.tensor([[True, True, False], [True, True, True]])
    own, negative = bce_loss(logits, iou, torch.tensor([True]), present).tolist()
    half = 0.5 * softplus(1.0) + 0.5 * softplus(-1.0)
    assert own == pytest.approx(softplus(-2.0) + half)
    # With an image that does not show the target every region is a negative.
    assert negative == pytest.approx(softplus(0.5) + softplus(-3.0) + softplus(1.0))


def test_without_a_box_the_bce_loss_counts_the_best_region_as_a_positive():
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    loss = bce_loss(
        logits, torch.zeros(1, 3), torch.tensor([False]), torch.ones(1, 3, dtype=torch.bool)
    )
    assert loss.item() == pytest.approx(softplus(-2.0))


def test_the_distillation_loss_is_least_for_the_ranking_by_cosine():
    cosines = torch.tensor([[0.1, 0.1 + math.log(3) / 30, 0.9]])
    present = torch.tensor([[True, True, False]])
    # Scaled by 30, cosines give probabilities of 1/4 and 3/4; the third region is padding.
    even = distillation_loss(torch.tensor([[0.0, 0.0, -INF]]), cosines, present)
    assert even.item() == pytest.approx(math.log(2))
    equal = distillation_loss(torch.tensor([[0.0, math.log(3), -INF]]), cosines, present)
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert equal.item() == pytest.approx(entropy, rel=1e-5)


@pytest.fixture
def batch():
    """Six images with a phrase about the first dog or cat of each, which are hard to separate."""
    table = random_table([3] * 6, 3)
    images = RegionTensors(table, "cpu").batch(torch.arange(6))
    image_index = torch.arange(6)
    iou = box_iou(images.boxes[:, 1], images.boxes)
    phrases = images.embeddings[:, 1]
    return phrases, images, image_index, iou


def draw_many(phrases, images, image_index, iou, located):
    drawn = set()
    for seed in range(40):
        examples, negatives = hard_negatives(
            phrases, images, image_index, iou, located, np.random.default_rng(seed)
        )
        drawn |= set(zip(examples.tolist(), negatives.tolist(), strict=True))
    return drawn


def test_hard_negatives_never_show_the_label_of_the_target(batch):
    phrases, images, image_index, iou = batch
    labels = torch.tensor([[2, 0, 0, 0], [2, 0, 1, 1], [2, 1, 1, 1], [2, 1, 1, 1], [2, 0, 0, 0],
                           [2, 1, 0, 0]])  # fmt: skip
    alike = images.embeddings[:1, :1].expand_as(images.embeddings)  # so every image may be drawn
    images = replace(images, labels=labels, embeddings=alike)
    located = torch.ones(6, dtype=torch.bool)
    located[4] = False
    drawn = draw_many(phrases, images, image_index, iou, located)
    # Dogs (0) are in images 0, 1, 4 and 5; cats (1) are in 1, 2, 3 and 5. Example 4 has no box.
    assert drawn == {(0, 2), (0, 3), (1, 2), (1, 3), (2, 0), (2, 4), (3, 0), (3, 4), (5, 0), (5, 4)}


def test_faint_or_dropped_detections_do_not_exclude_an_image(batch):
    phrases, images, image_index, iou = batch
    labels = torch.tensor([[2, 0, 0, 0]] + [[2, 0, 1, 1]] * 5)
    images = replace(images, labels=labels)
    located = torch.tensor([True] + [False] * 5)
    assert draw_many(phrases, images, image_index, iou, located) == set()
    scores = images.scores.clone()
    scores[1, 1] = 0.05
    dropped = torch.zeros_like(images.present)
    dropped[2, 1] = True
    images = replace(images, scores=scores).without(dropped)
    assert draw_many(phrases, images, image_index, iou, located) == {(0, 1), (0, 2)}


def test_a_target_that_was_not_detected_gets_no_hard_negative(batch):
    phrases, images, image_index, iou = batch
    whole_image_is_best = torch.zeros_like(iou)
    located = torch.ones(6, dtype=torch.bool)
    assert draw_many(phrases, images, image_index, whole_image_is_best, located) == set()


def test_the_most_similar_image_is_drawn_most_often(batch):
    phrases, images, image_index, iou = batch
    labels = torch.tensor([[2, 0, 0, 0]] + [[2, 1, 1, 1]] * 5)
    embeddings = torch.zeros_like(images.embeddings)
    embeddings[..., 0] = 1
    embeddings[3, 2] = phrases[0]
    images = replace(images, labels=labels, embeddings=embeddings)
    located = torch.tensor([True] + [False] * 5)
    drawn = [
        hard_negatives(phrases, images, image_index, iou, located, np.random.default_rng(seed))[
            1
        ].item()
        for seed in range(40)
    ]
    assert drawn.count(3) > 30


def test_random_negatives_are_other_images():
    image_index = torch.tensor([0, 0, 1, 2] * 20)
    drawn = random_negatives(image_index, 3, np.random.default_rng(0))
    assert (drawn != image_index).all()
    assert set(drawn.tolist()) == {0, 1, 2}


def test_dropped_regions_are_no_positives_and_no_whole_images():
    table = random_table([20] * 30, 0)
    examples = left_and_right(table)
    images = RegionTensors(table, "cpu").batch(torch.arange(30))
    image_index = torch.from_numpy(examples.image)
    iou = box_iou(torch.from_numpy(examples.boxes), images.boxes[image_index])
    kept = drop_regions(images, iou, image_index, np.random.default_rng(0)).present
    assert kept[:, 0].all()
    assert kept[image_index][iou >= POSITIVE_IOU].all()
    assert 0.05 < 1 - kept.float().mean().item() < 0.12


def test_jittered_embeddings_stay_unit_length_and_padding_stays_zero():
    images = RegionTensors(random_table([5, 2, 8], 0), "cpu").batch(torch.arange(3))
    jittered = jitter_embeddings(images, 0.35, np.random.default_rng(0))
    norms = jittered.embeddings.norm(dim=-1)
    torch.testing.assert_close(norms[images.present], torch.ones(18))
    assert not norms[~images.present].any()
    cosines = (jittered.embeddings * images.embeddings).sum(-1)[images.present]
    assert 0.7 < cosines.mean() < 0.9999
