"""Scoring phrases, each on its own images, with the residual network, as a search needs it.

It computes what :meth:`.residual_model.ResidualModel.score_pairs` does, to the rounding of the
stored image pass, but only what decides which region of each image is best: regions attend to each
other for the few that the early exit keeps. Regions of all images are one table, without padding.

Steps are few, because each takes some microseconds, and write in place, because memory is slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from .attention import HEADS
from .early_exit import KEPT_REGIONS, EarlyExit
from .flat_images import FlatImages
from .flat_model import FlatAttention, FlatModel
from .flat_phrases import ReadPhrase
from .geometry import between
from .image_pass import ORDERS
from .noun_ranks import RANK_FEATURES, NounRanks
from .phrase_batch import NOUN, PARTS

__all__ = ["States", "best_of_images", "states_before_attention"]

_ROWS_AT_ONCE = 1024  # as float32, they stay in the cache until they are multiplied


class States(NamedTuple):
    """What is known of n regions before they attend to each other.

    Parameters
    ----------
    hidden : tensor of shape (n, width)
        Their states.
    guess : tensor of shape (n,)
        The first guess of their logits.
    """

    hidden: torch.Tensor
    guess: torch.Tensor


def best_of_images(
    model: FlatModel,
    early: EarlyExit,
    phrases: Sequence[ReadPhrase],
    images: FlatImages,
    ends: Sequence[int],
    allowed: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best region of each image for its phrase.

    Parameters
    ----------
    model : FlatModel
    early : EarlyExit
    phrases : sequence of p ReadPhrase
    images : FlatImages
        m images: those of the first phrase, then those of the next.
    ends : sequence of p int
        Where the images of each phrase end, in ascending order; each has some.
    allowed : bool tensor of shape (n,), optional
        Which of the n regions may be found. The others still count as their neighbors.

    Returns
    -------
    rows : int64 tensor of shape (m,)
    logits : float tensor of shape (m,)
        Minus infinity for an image without an allowed region.
    """
    hidden, guess = states_before_attention(model, phrases, images, ends)
    rows, missing = images.padded()
    scores = early(hidden, guess).index_select(0, rows.flatten()).view(rows.shape)
    barred = missing if allowed is None else missing | ~allowed[rows]
    scores.masked_fill_(barred, -torch.inf)
    kept = scores.topk(min(KEPT_REGIONS, rows.shape[1]), 1, sorted=False).indices
    chosen, out = rows.gather(1, kept), barred.gather(1, kept)
    flat = chosen.flatten()
    states = _attend(model.attend, phrases, ends, hidden, images, chosen, rows, missing)
    states += hidden.index_select(0, flat)
    norm, answer = model.answer
    logits = answer(norm(model.think(states)))[:, 0].add_(guess.index_select(0, flat))
    best = logits.view(kept.shape).masked_fill_(out, -torch.inf).max(1)
    return chosen.gather(1, best.indices[:, None])[:, 0], best.values


def states_before_attention(
    model: FlatModel, phrases: Sequence[ReadPhrase], images: FlatImages, ends: Sequence[int]
) -> States:
    """Return the states of all regions of some images; see :func:`best_of_images`."""
    planes, start = [], 0
    for phrase, end in zip(phrases, ends, strict=True):
        planes.append(_similarities(model, phrase, images, start, end))
        start = end
    fit, guess = planes[0][-2:] if len(planes) == 1 else torch.cat([own[-2:] for own in planes], 1)
    others, balance = _rank_sums(model, fit, images)
    hidden = torch.empty(len(fit), model.width)
    row = 0
    for phrase, own in zip(phrases, planes, strict=True):
        rows = slice(row, row + own.shape[1])
        NounRanks.write_features(others[rows], balance[:, rows], own[1 : 1 + RANK_FEATURES])
        _write_states(model, phrase, own[:-2], images.units[rows], hidden[rows])
        row = rows.stop
    return States(hidden, guess)


def _similarities(
    model: FlatModel, phrase: ReadPhrase, images: FlatImages, start: int, end: int
) -> torch.Tensor:
    """Return planes for the regions of images `start` to `end`, those of ranks still empty.

    They are what `FlatModel.similar` is multiplied with, then how well the noun fits, and the first
    guess of the logits.
    """
    rows = slice(int(images.offsets[start]), int(images.offsets[end]))
    planes = torch.empty(1 + RANK_FEATURES + 4 * PARTS + 2, rows.stop - rows.start)
    similar = planes[1 + RANK_FEATURES :]
    cosines, highest, whole = similar[:PARTS], similar[PARTS : 2 * PARTS], similar[2 * PARTS :]
    _write_cosines(phrase, images.embeddings[rows], cosines)
    values, firsts = cosines.numpy(), images.offsets[start:end] - rows.start
    of_image = images.image[rows] - start
    np.maximum.reduceat(values, firsts, axis=1).take(of_image, 1, out=highest.numpy(), mode="clip")
    values.take(firsts, 1).take(of_image, 1, out=whole[:PARTS].numpy(), mode="clip")
    table, labels = _of_labels(model, phrase, images), images.labels[rows]
    torch.index_select(table, 1, labels, out=similar[3 * PARTS :])
    if NOUN in phrase.known:
        planes[-2].add_(cosines[NOUN], alpha=model.noun_of_cosine)
    planes[-1].add_(cosines[0], alpha=model.guess_of_cosine).add_(model.guess_bias)
    if phrase.colors is not None:
        torch.mv(torch.from_numpy(images.colors[rows]).float(), phrase.colors, out=planes[0])
    return planes


def _write_cosines(phrase: ReadPhrase, embeddings: torch.Tensor, out: torch.Tensor) -> None:
    """Write the cosines of the phrase's parts and all regions; 0 for parts that it lacks."""
    count, size = embeddings.shape
    last = max(phrase.known, default=-1) + 1  # mostly, it is the landmark that is missing
    parts, found = phrase.parts[:last], out[:last]
    out[last:].zero_()
    buffer = parts.new_empty(min(_ROWS_AT_ONCE, count), size)
    for start in range(0, count, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, count)
        rows = buffer[: stop - start].copy_(embeddings[start:stop])
        torch.mm(parts, rows.T, out=found[:, start:stop])


def _of_labels(model: FlatModel, phrase: ReadPhrase, images: FlatImages) -> torch.Tensor:
    """Return `FlatModel.of_labels` of the standardized cosines of labels, (PARTS + 2, k)."""
    cosines = phrase.parts @ images.label_embeddings.T
    cosines.sub_(model.label_mean).mul_(images.label_known)  # whole images have no name
    cosines *= (phrase.present / model.label_spread)[:, None]
    return model.of_labels @ cosines


def _write_states(
    model: FlatModel,
    phrase: ReadPhrase,
    planes: torch.Tensor,
    units: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """Write the states of regions, (n, width), from planes with all features."""
    first = 0 if phrase.colors is not None else 1
    features = torch.addmm(phrase.similar_bias, planes[first:].T, phrase.similar[:, first:].T)
    torch.addmm(phrase.joined_bias, features.relu_(), phrase.joined.T, out=out)
    units, width = units.float(), model.width
    out.addcmul_(units[:, :width], phrase.scale)
    out.addcmul_(units[:, width:], phrase.bilinear).relu_()
    # Words in rows, and by hand, because softmax over short rows or columns is slow.
    shares = torch.addmm(phrase.keys_bias, phrase.keys, out.T)
    shares.sub_(shares.amax(0)).exp_()
    out.addmm_(shares.div_(shares.sum(0)).T, phrase.values)


def _rank_sums(
    model: FlatModel, fit: torch.Tensor, images: FlatImages
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the ranks of regions among those that the noun fits are made of.

    The sums over all pairs of regions are differences of running sums over sorted regions, less
    the few pairs that are the same thing. See :meth:`.noun_ranks.NounRanks.write_features`.
    """
    counted, count = images.counted, len(fit)
    best = images.best(fit.masked_fill(counted == 0, -1e4))
    likely = (fit - best).add_(model.margin).mul_(model.sharpness).sigmoid_()
    likely *= counted.clamp(min=0).pow_(max(model.trust, 1e-30))
    weights = likely.numpy()
    running = likely.new_zeros(ORDERS, count + 1, dtype=torch.float64)
    by_order = torch.from_numpy(weights.take(images.ordered))
    torch.cumsum(by_order, 1, dtype=torch.float64, out=running[:, 1:])
    sums = running.numpy()
    edges = sums.take(images.offsets, 1)
    balance = sums.take(images.before)
    balance += sums.take(images.upto)
    balance -= (edges[:, :-1] + edges[:, 1:]).take(images.image, 1)
    others = (edges[0, 1:] - edges[0, :-1]).take(images.image)
    same = likely.new_zeros(1 + ORDERS, count)
    doubled = torch.from_numpy(weights.take(images.duplicates))
    same.index_add_(1, images.owners, images.signs * doubled)
    same[0].addcmul_(likely, images.itself)
    return (
        torch.from_numpy(others).float().sub_(same[0]),
        torch.from_numpy(balance).float().sub_(same[1:]),
    )


def _attend(
    attend: FlatAttention,
    phrases: Sequence[ReadPhrase],
    ends: Sequence[int],
    states: torch.Tensor,
    images: FlatImages,
    chosen: torch.Tensor,
    rows: torch.Tensor,
    missing: torch.Tensor,
) -> torch.Tensor:
    """Return what the `chosen` regions, (m, k), gather from all regions, (m · k, width).

    The regions of an image are `rows`, (m, n), of which some are `missing`.
    """
    (count, longest), kept, width = rows.shape, chosen.shape[1], states.shape[1]
    factors = attend.factors(states)
    flat, every = chosen.flatten(), rows.flatten()
    asking = states.index_select(0, flat).mul_(factors.index_select(0, flat)[:, None])
    others = states.index_select(0, every).view(count, longest, width)
    factors = factors.index_select(0, every).view(count, 1, longest)
    near = between(images.measures, chosen, rows).flatten(1)
    weight, bias = attend.pairs
    units = torch.addmm(bias, weight, near).relu_()
    asked = states.new_empty(count * kept, HEADS * width)
    biases = states.new_empty(HEADS, count * kept * longest)
    start = 0
    for phrase, end in zip(phrases, ends, strict=True):
        own = slice(start * kept, end * kept)
        torch.addmm(phrase.asks, asking[own], attend.asks.T, out=asked[own])
        pairs = slice(own.start * longest, own.stop * longest)
        torch.mm(phrase.pairs, units[:, pairs], out=biases[:, pairs])
        start = end
    asked = asked.view(count, kept * HEADS, width)
    scores = torch.bmm(asked, others.transpose(1, 2)).mul_(factors)
    scores.view(count, kept, HEADS, longest).add_(
        biases.view(HEADS, count, kept, longest).permute(1, 2, 0, 3)
    )
    shares = scores.masked_fill_(missing[:, None], -torch.inf).softmax(-1).mul_(factors)
    return attend.gives(torch.bmm(shares, others).view(count * kept, HEADS * width))
