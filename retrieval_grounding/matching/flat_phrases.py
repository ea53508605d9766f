"""What the residual network makes of a phrase before it sees a region: weights for regions.

Whatever multiplies or adds to the values of all regions is joined with a layer here, so that fewer
steps touch the regions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from .flat_model import FlatModel
from .phrase_batch import PhraseBatch
from .vocabulary import PADDING

__all__ = ["ReadPhrase", "read_phrases"]


class ReadPhrase(NamedTuple):
    """One phrase of k words; `width` is that of the states.

    Parameters
    ----------
    parts, present : tensors of shape (PARTS, d) and (PARTS,)
        As in :class:`.phrase_batch.PhraseBatch`.
    known : list of int
        The parts that are present.
    colors : tensor of shape (11,) or None
        What a region's bytes count for the colors that it names; None if it names none.
    similar, similar_bias : tensors of shape (width, features) and (width,)
        First layer for similarities; see :class:`.flat_model.FlatModel`.
    joined, joined_bias : tensors of shape (width, width) and (width,)
        The second one.
    scale, bilinear : tensors of shape (width,)
        What the two halves of a region's units are multiplied with.
    keys, keys_bias, values : tensors of shape (k, width), (k, 1) and (k, width)
        What a region's state is multiplied with to choose words, and what it gets of them.
    asks : tensor of shape (HEADS · width,)
        What is added to what regions ask each other for.
    pairs : tensor of shape (HEADS, units)
        What the hidden units of pairs of regions count.
    """

    parts: torch.Tensor
    present: torch.Tensor
    known: list[int]
    colors: torch.Tensor | None
    similar: torch.Tensor
    similar_bias: torch.Tensor
    joined: torch.Tensor
    joined_bias: torch.Tensor
    scale: torch.Tensor
    bilinear: torch.Tensor
    keys: torch.Tensor
    keys_bias: torch.Tensor
    values: torch.Tensor
    asks: torch.Tensor
    pairs: torch.Tensor


def read_phrases(model: FlatModel, phrases: PhraseBatch) -> list[ReadPhrase]:
    """Return what a network makes of each phrase."""
    lengths = (phrases.words != PADDING).sum(1).clamp_(min=1).tolist()
    named = phrases.colors.any(1).tolist()
    return [
        _read(model, phrases, row, length, colors)
        for row, (length, colors) in enumerate(zip(lengths, named, strict=True))
    ]


def _read(
    model: FlatModel, phrases: PhraseBatch, row: int, length: int, names_colors: bool
) -> ReadPhrase:
    width, parts, present = model.width, phrases.parts[row], phrases.present[row]
    states = model.words(phrases.words[row, :length], phrases.roles[row, :length])
    words = states.mean(0)
    hidden = model.phrase(torch.cat([parts[0], words])[None]).relu_()
    modulation = model.modulation(hidden)[0]
    sizes = [width, width, width, len(modulation) - 3 * width]
    scale, shift, bilinear, asks = torch.split(modulation, sizes)
    read = model.read_words(states)
    one = torch.cat([present.new_ones(1), present])
    similar = model.similar * one.index_select(0, model.similar_present)
    similar_bias = model.similar_bias(present[None])[0]
    colors = None
    if names_colors:
        colors, similar_bias = phrases.colors[row] / 255, similar_bias + model.named
    return ReadPhrase(
        parts,
        present,
        [part for part, known in enumerate(present.tolist()) if known],
        colors,
        similar,
        similar_bias,
        model.joined.weight * scale[:, None],
        torch.addcmul(shift, model.joined.bias, scale),
        scale,
        bilinear,
        read[:, :width],
        read[:, width, None],
        read[:, width + 1 :],
        asks,
        model.pairs * (1 + model.relation(words[None])),
    )
