"""Scoring one phrase on many images with the residual network, as a search needs it.

It computes what :meth:`.residual_model.ResidualModel.score_pairs` does, to the rounding of the
stored image pass, but only what decides which region of each image is best: regions attend to each
other for the few that the early exit keeps. Regions of all images are one table, without padding.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from .attention import HEADS
from .early_exit import KEPT_REGIONS
from .flat_images import FlatImages
from .geometry import between
from .noun_ranks import NounRanks
from .phrase_batch import PhraseBatch
from .residual_model import ResidualModel

__all__ = ["States", "best_of_images", "states_before_attention"]

_NOUN = 2
_NAMES = 3  # phrase, target and noun may be the name of a label


class States(NamedTuple):
    """What is known of n regions before they attend to each other.

    Parameters
    ----------
    hidden : tensor of shape (n, width)
        Their states.
    guess : tensor of shape (n,)
        The first guess of their logits.
    query, words : tensors of shape (width,)
        What the phrase adds to the queries, and the mean state of its words.
    """

    hidden: torch.Tensor
    guess: torch.Tensor
    query: torch.Tensor
    words: torch.Tensor


def best_of_images(
    model: ResidualModel, phrase: PhraseBatch, images: FlatImages
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best region of each image for one phrase.

    Returns
    -------
    rows : int64 tensor of shape (m,)
    logits : float tensor of shape (m,)
    """
    assert model.early is not None
    states = states_before_attention(model, phrase, images)
    counts = images.counts[:, None]
    longest = int(counts.max())
    columns = torch.arange(longest)
    missing = columns >= counts
    # The last region of an image stands in its padding, which counts for nothing.
    rows = images.starts[:, None] + torch.minimum(columns, counts - 1)
    early = model.early(states.hidden, states.guess)[rows].masked_fill_(missing, -torch.inf)
    kept = early.topk(min(KEPT_REGIONS, longest), 1, sorted=False).indices
    chosen = rows.gather(1, kept)
    flat = chosen.flatten()
    hidden = _attend(model, states, images, chosen, rows, missing)
    hidden += states.hidden.index_select(0, flat)
    hidden += model.think(hidden)
    logits = states.guess.index_select(0, flat) + model.answer(hidden)[:, 0]
    logits = logits.view(kept.shape).masked_fill_(kept >= counts, -torch.inf)
    best = logits.max(1)
    return chosen.gather(1, best.indices[:, None])[:, 0], best.values


def states_before_attention(
    model: ResidualModel, phrase: PhraseBatch, images: FlatImages
) -> States:
    """Return the states of all regions of some images for one phrase."""
    similar = model.similar
    mean, spread, label_mean, label_spread = similar.statistics.tolist()
    parts, present = phrase.parts[0], phrase.present[0][:, None]
    unit = present / spread
    cosines = parts @ images.embeddings.T
    highest = images.best(cosines)
    regions = (cosines - mean) * unit
    names = images.label_embeddings
    label_cosines = (parts @ names.T - label_mean) / label_spread * names.any(1)
    labels = (label_cosines * present).index_select(1, images.labels)
    fit = 0.6 * regions[_NOUN] + 0.4 * labels[_NOUN]
    whole = regions.index_select(1, images.starts).index_select(1, images.image)
    planes = [_ranks(model.ranks, fit, images), regions, labels, (cosines - highest) * unit, whole]
    # What is the same for all regions joins the bias.
    first, second = model.similarities[0], model.similarities[2]
    assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
    varying = sum(map(len, planes))
    constant = first.bias + first.weight[:, varying : varying + len(present)] @ present[:, 0]
    weight = first.weight[:, :varying]
    if phrase.colors.any():
        shown = torch.from_numpy(images.colors).float() @ (phrase.colors[0] / 255)
        planes.append(shown[None])
        weight = torch.cat([weight, first.weight[:, -2:-1]], 1)
        constant = constant + first.weight[:, -1]
    features = torch.addmm(constant, torch.cat(planes).T, weight.T).relu_()

    states, words = model.words(phrase)
    scale, shift, bilinear, query = model.phrase(torch.cat([phrase.embeddings, words], -1))[
        0
    ].chunk(4)
    scale = 1 + scale
    width = model.width
    units = images.units.float()
    hidden = torch.addmm(second.bias * scale + shift, features, (second.weight * scale[:, None]).T)
    hidden.addcmul_(units[:, :width], scale).addcmul_(units[:, width:], bilinear).relu_()
    keys, values = model.word_keys(states)[0].chunk(2, dim=-1)
    # Words in rows, because softmax over short rows is slow.
    asked = torch.addmm((keys @ model.ask.bias)[:, None], keys @ model.ask.weight, hidden.T)
    asked = asked.div_(math.sqrt(width))
    asked.masked_fill_(~model.words.present(phrase)[0][:, None], -torch.inf)
    hidden.addmm_(asked.softmax(0).T, values)
    mixture = similar.mixture
    guess = torch.addmv(regions[0] * mixture[0], labels[:_NAMES].T, mixture[1:])
    return States(hidden, model.scale.exp() * guess + model.bias, query, words[0])


def _ranks(ranks: NounRanks, fit: torch.Tensor, images: FlatImages) -> torch.Tensor:
    """Return the ranks of regions among those that the noun fits, (RANK_FEATURES, n).

    The sums over all pairs of regions are differences of running sums over sorted regions, less
    the few pairs that are the same thing.
    """
    counted = images.counted
    best = images.best(fit.masked_fill(counted == 0, -1e4))
    likely = ranks.likely(fit, best, counted)
    orders, count = images.ordered.shape
    sums = _running_sums(likely.index_select(0, images.ordered.flatten()).view(orders, count))
    begin, end = sums[:, images.starts], sums[:, images.starts + images.counts]
    balance = sums.gather(1, images.before) + sums.gather(1, images.upto)
    balance -= (begin + end).index_select(1, images.image)
    others = (end[:1] - begin[:1]).index_select(1, images.image)
    own, same = images.duplicate_owners, images.duplicates
    signs = images.before.index_select(1, own).sub_(images.before.index_select(1, same)).sign_()
    weights = likely.index_select(0, same)
    dropped = _running_sums(torch.cat([weights[None], signs * weights]))
    dropped = dropped.index_select(1, images.duplicate_ends)
    totals = torch.cat([others, balance]).sub_(dropped[:, 1:] - dropped[:, :-1]).float()
    others, balance = totals[:1] / 2, totals[1:] / 2
    return ranks.features(torch.cat([others + balance, others - balance]), 0)


def _running_sums(values: torch.Tensor) -> torch.Tensor:
    """Return the sum of the values before each column and of all, (k, n + 1) float64."""
    sums = torch.zeros(len(values), values.shape[1] + 1, dtype=torch.float64)
    torch.cumsum(values, 1, dtype=torch.float64, out=sums[:, 1:])
    return sums


def _attend(
    model: ResidualModel,
    states: States,
    images: FlatImages,
    chosen: torch.Tensor,
    rows: torch.Tensor,
    missing: torch.Tensor,
) -> torch.Tensor:
    """Return what the `chosen` regions, (m, k), gather from all regions, (m · k, width).

    The regions of an image are `rows`, (m, n), of which some are `missing`. Because few regions
    ask, their queries are taken to the states of the others, not the others' keys and values to
    them: ``q · (K h) = (q K) · h``.
    """
    attend, width = model.attend, model.width
    (count, longest), kept, head = rows.shape, chosen.shape[1], model.width // HEADS
    normed = attend.norm(states.hidden)
    query, key, value = attend.joint.weight.view(3, HEADS, head, width)
    asking = normed.index_select(0, chosen.flatten())
    asked = torch.addmm(states.query, asking, query.flatten(0, 1).T).div_(math.sqrt(head))
    asked = torch.bmm(asked.view(-1, HEADS, head).transpose(0, 1), key)  # (HEADS, m · k, width)
    asked = asked.view(HEADS, count, kept, width).transpose(0, 1).flatten(1, 2)
    others = normed.index_select(0, rows.flatten()).view(count, longest, width)
    near = between(images.boxes, images.labels, chosen, rows)
    units = torch.addmm(attend.first.bias[:, None], attend.first.weight, near.flatten(1)).relu_()
    bias = (attend.pair_weights(states.words[None])[0] @ units).view(HEADS, count, kept, longest)
    bias = bias.transpose(0, 1).reshape(count, HEADS * kept, longest)
    scores = torch.baddbmm(bias, asked, others.transpose(1, 2))
    shares = scores.masked_fill_(missing[:, None], -torch.inf).softmax(-1)
    seen = torch.bmm(shares, others).view(count, HEADS, kept, width).transpose(0, 1)
    seen = torch.bmm(seen.reshape(HEADS, -1, width), value.transpose(1, 2))
    gathered = seen.transpose(0, 1).reshape(-1, width)
    return functional.linear(gathered, attend.out.weight, attend.out.bias)
