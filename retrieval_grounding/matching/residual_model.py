"""The residual network: cosines plus a correction that reads words and sees other regions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from ..core.colors import COLORS
from .attention import RelationAttention
from .batch import ImageBatch
from .config import MatcherConfig
from .early_exit import EarlyExit
from .geometry import POSITION_FEATURES, position_features, relation_features
from .model import MatcherModel
from .noun_ranks import RANK_FEATURES, NounRanks
from .phrase_batch import PhraseBatch
from .rows import take_rows
from .similarities import SIMILARITY_FEATURES, SimilarityScale
from .word_encoder import WordEncoder

__all__ = ["EncodedImages", "ResidualModel", "cosine_scale_of", "set_cosine_scale"]


_DROPOUT = 0.1
_OWN_FEATURES = 3  # confidence, size, and whether it is a group


@dataclass(frozen=True)
class EncodedImages:
    """m images of n regions, encoded independently of any phrase.

    Parameters
    ----------
    regions : float tensor of shape (m, n, width)
        Everything known about a region.
    bilinear : float tensor of shape (m, n, width) or None
        The regions' factor of the low-rank product with phrases; None without embeddings.
    pairs : float tensor of shape (m, units, n · n)
        Relative positions, encoded.
    orders : float tensor of shape (m, 5, n, n)
        Which region comes before which.
    counted : float tensor of shape (m, n)
        Confidence in single things.
    """

    regions: torch.Tensor
    bilinear: torch.Tensor | None
    pairs: torch.Tensor
    orders: torch.Tensor
    counted: torch.Tensor


class ResidualModel(MatcherModel):
    """``logit = s · guess + b + f(similarities, words, geometry, context)``, f zero at first.

    The guess adds the cosine of region and phrase and those of the region's label. f sees each
    region with its similarities to the parts of the phrase, its colors and position, modulated by
    the phrase (Perez et al., FiLM, 2018); attends to the words of the phrase, then to the image's
    other regions with a relative position bias. With a dimension, it also sees the low-rank product
    of embeddings (Kim et al., Hadamard product for low-rank bilinear pooling, 2017); without, it
    serves any encoder.

    Parameters
    ----------
    config : MatcherConfig
        Shape.
    """

    def __init__(self, config: MatcherConfig) -> None:
        super().__init__()
        width, size = config.width, config.dimension
        # The names of these submodules, here and in the modules that they use, are the keys in
        # matcher files: renaming one would make every existing file unreadable.
        self.scale = nn.Parameter(torch.tensor(math.log(1.5)))
        self.bias = nn.Parameter(torch.tensor(-4.0))
        self.similar = SimilarityScale()
        self.ranks = NounRanks()
        self.words = WordEncoder(config.words, width)
        self.phrase = nn.Sequential(
            nn.Linear(size + width, 2 * width), nn.ReLU(), nn.Linear(2 * width, 4 * width)
        )
        facts = POSITION_FEATURES + len(COLORS) + _OWN_FEATURES
        self.facts = nn.Sequential(nn.Linear(facts, width), nn.ReLU(), nn.Linear(width, width))
        self.similarities = nn.Sequential(
            nn.Linear(SIMILARITY_FEATURES + RANK_FEATURES, width),
            nn.ReLU(),
            nn.Linear(width, width),
        )
        self.dropout = nn.Dropout(_DROPOUT)
        if size:
            self.region = nn.Linear(size, width)
            self.label = nn.Linear(size, width)
            self.interact = nn.Linear(size, width, bias=False)
        self.ask = nn.Linear(width, width)
        self.word_keys = nn.Linear(width, 2 * width)
        self.attend = RelationAttention(width)
        self.think = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )
        last = nn.Linear(width, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.answer = nn.Sequential(nn.LayerNorm(width), last)
        self.sees_embeddings = bool(size)
        self.width = width
        self.early: EarlyExit | None = None  # trained afterwards; see .fit_early_exit

    def encode_images(self, images: ImageBatch) -> EncodedImages:
        """Return what does not depend on the phrase; see :class:`MatcherModel`."""
        relations = relation_features(images)
        sides = images.boxes[..., 2:] - images.boxes[..., :2]
        own = [images.scores, sides.prod(-1).sqrt(), images.groups.to(sides.dtype)]
        features = torch.cat(
            [
                position_features(images, relations),
                images.colors.movedim(-1, 0),
                torch.stack(own),
            ]
        )
        regions = self.facts(features.flatten(1).T).view(*images.present.shape, -1)
        bilinear = None
        if self.sees_embeddings:
            labels = take_rows(self.label(images.label_embeddings), images.labels.flatten())
            labels = labels.view(*images.labels.shape, -1)
            regions = regions + self.region(self.dropout(images.embeddings)) + labels
            bilinear = self.interact(images.embeddings)
        orders, counted = self.ranks.orders(images, relations)
        return EncodedImages(
            regions, bilinear, self.attend.encode_pairs(relations), orders, counted
        )

    def score_pairs(
        self,
        phrases: PhraseBatch,
        images: ImageBatch,
        encoded: EncodedImages,
        phrase_index: torch.Tensor,
        image_index: torch.Tensor | slice,
    ) -> torch.Tensor:
        """Return logits, (pairs, n); see :class:`MatcherModel`."""
        states, pooled = self.words(phrases)
        known = [phrases.embeddings, pooled] if self.sees_embeddings else [pooled]
        of_phrases = self.phrase(torch.cat(known, -1))
        scale, shift, bilinear, query = take_rows(of_phrases, phrase_index).chunk(4, dim=-1)
        present = images.present[image_index]
        similar = self.similar(phrases, images, phrase_index, image_index)
        ranks = self.ranks(similar.noun, encoded.orders[image_index], encoded.counted[image_index])
        hidden = take_rows(encoded.regions, image_index) + self.similarities(
            torch.cat([ranks, similar.features], -1)
        )
        hidden = torch.addcmul(shift[:, None], hidden, 1 + scale[:, None])
        if encoded.bilinear is not None:
            hidden = torch.addcmul(
                hidden, take_rows(encoded.bilinear, image_index), bilinear[:, None]
            )
        hidden = functional.relu(hidden)
        hidden = hidden + self._read(hidden, phrases, states, phrase_index)
        gathered = self.attend(
            hidden,
            query,
            take_rows(pooled, phrase_index),
            take_rows(encoded.pairs, image_index),
            present,
        )
        hidden = hidden + gathered
        hidden = hidden + self.dropout(self.think(hidden))
        guess = self.scale.exp() * self.similar.guess(similar) + self.bias
        logits = guess + self.answer(hidden).squeeze(-1)
        masked: torch.Tensor = logits.masked_fill(~present, -torch.inf)
        return masked

    def _read(
        self,
        hidden: torch.Tensor,
        phrases: PhraseBatch,
        states: torch.Tensor,
        phrase_index: torch.Tensor,
    ) -> torch.Tensor:
        """Return what each region gathers from the words of its phrase, (pairs, n, width)."""
        keys, values = take_rows(self.word_keys(states), phrase_index).chunk(2, dim=-1)
        scores = self.ask(hidden) @ keys.transpose(1, 2)
        scores = scores / math.sqrt(hidden.shape[-1])
        present = self.words.present(phrases)[phrase_index][:, None]
        shares = scores.masked_fill(~present, -torch.inf).softmax(-1)
        read: torch.Tensor = shares @ values
        return read


def set_cosine_scale(model: MatcherModel, scale: npt.NDArray[np.float32]) -> None:
    """Let a network standardize cosines by `scale`, (4,); other networks take them as they are."""
    if isinstance(model, ResidualModel):
        model.similar.statistics.copy_(torch.from_numpy(scale))


def cosine_scale_of(model: MatcherModel) -> npt.NDArray[np.float32]:
    """Return the scale of cosines that a network for any encoder has, (4,)."""
    assert isinstance(model, ResidualModel)
    scale: npt.NDArray[np.float32] = model.similar.statistics.numpy(force=True)
    return scale
