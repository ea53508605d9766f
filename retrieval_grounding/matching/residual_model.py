"""The residual network: cosine plus a correction that sees geometry, colors and other regions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from ..core.colors import COLORS
from .attention import RelationAttention
from .batch import ImageBatch
from .config import MatcherConfig
from .geometry import POSITION_FEATURES, position_features, relation_features
from .model import MatcherModel, PhraseBatch

__all__ = ["EncodedImages", "ResidualModel"]


@dataclass(frozen=True)
class EncodedImages:
    """m images of n regions, encoded independently of any phrase.

    Parameters
    ----------
    regions : float tensor of shape (m, n, width)
        Everything known about a region.
    bilinear : float tensor of shape (m, n, width)
        The regions' factor of the low-rank product with phrases.
    position_bias : float tensor of shape (m, heads, n, n)
        Relative position bias of the attention.
    """

    regions: torch.Tensor
    bilinear: torch.Tensor
    position_bias: torch.Tensor


class ResidualModel(MatcherModel):
    """``logit = s·cos(region, phrase) + b + f(interaction, geometry, context)``, f zero at first.

    f sees each region with the low-rank product of its embedding and the phrase's (Kim et al.,
    Hadamard product for low-rank bilinear pooling, 2017), its colors, label and position, modulated
    by the phrase (Perez et al., FiLM, 2018), then attends to the image's other regions with a
    relative position bias.

    Parameters
    ----------
    config : MatcherConfig
        Shape.
    """

    def __init__(self, config: MatcherConfig) -> None:
        super().__init__()
        width, size = config.width, config.dimension
        # The names of these submodules, here and in `RelationAttention` and `ConcatModel`, are the
        # keys in matcher files: renaming one would make every existing file unreadable.
        self.scale = nn.Parameter(torch.tensor(math.log(20.0)))
        self.bias = nn.Parameter(torch.tensor(-4.0))
        self.words = nn.EmbeddingBag(max(config.words, 1), width, mode="sum")
        nn.init.zeros_(self.words.weight)  # a word that training never meets has no effect
        self.phrase = nn.Sequential(
            nn.Linear(size + width, 2 * width), nn.ReLU(), nn.Linear(2 * width, 4 * width)
        )
        self.region = nn.Linear(2 * size, width)
        self.facts = nn.Sequential(
            nn.Linear(POSITION_FEATURES + len(COLORS), width), nn.ReLU(), nn.Linear(width, width)
        )
        self.label = nn.Linear(size, width)
        self.cosines = nn.Linear(3, width, bias=False)
        self.interact = nn.Linear(size, width, bias=False)
        self.attend = RelationAttention(width)
        self.think = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )
        last = nn.Linear(width, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.answer = nn.Sequential(nn.LayerNorm(width), last)

    def encode_images(self, images: ImageBatch) -> EncodedImages:
        """Return what does not depend on the phrase; see :class:`MatcherModel`."""
        relations = relation_features(images)
        features = torch.cat([position_features(images, relations), images.colors.movedim(-1, 0)])
        regions = self.facts(features.flatten(1).T).view(*images.present.shape, -1)
        labels = self.label(images.label_embeddings)[images.labels]
        # `region` multiplies [region embedding, whole-image embedding]. The half for the whole
        # image is the same for all regions, so it is computed once per image.
        own_weight, whole_weight = self.region.weight.chunk(2, dim=1)
        whole_image = functional.linear(images.embeddings[:, :1], whole_weight, self.region.bias)
        weights = torch.cat([own_weight, self.interact.weight])
        own, bilinear = functional.linear(images.embeddings, weights).chunk(2, dim=-1)
        return EncodedImages(
            regions=regions.add_(own).add_(labels).add_(whole_image),
            bilinear=bilinear,
            position_bias=self.attend.position_bias(relations, images.present),
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
        word_sums = self.words(phrases.word_ids, phrases.offsets)
        modulation = self.phrase(torch.cat([phrases.embeddings, word_sums], dim=-1))
        scale, shift, bilinear, query = modulation.chunk(4, dim=-1)
        present = images.present[image_index]
        embeddings = phrases.embeddings[phrase_index]
        cosine = (images.embeddings[image_index] @ embeddings[:, :, None]).squeeze(-1)
        label_cosine = (phrases.embeddings @ images.label_embeddings.T)[phrase_index]
        label_cosine = label_cosine.gather(1, images.labels[image_index])
        highest = cosine.masked_fill(~present, -1).amax(1, keepdim=True)
        cosines = torch.stack([cosine, label_cosine, cosine - highest], dim=-1)

        scale, shift, bilinear = (
            part[phrase_index][:, None] for part in (1 + scale, shift, bilinear)
        )
        hidden = torch.addcmul(shift, encoded.regions[image_index], scale)
        hidden.addcmul_(encoded.bilinear[image_index], bilinear)
        hidden = hidden.add_(self.cosines(8 * cosines)).relu_()
        bias = encoded.position_bias[image_index]
        hidden = self.attend(hidden, query[phrase_index], bias).add_(hidden)
        hidden = self.think(hidden).add_(hidden)
        logits = self.scale.exp() * cosine + self.bias + self.answer(hidden).squeeze(-1)
        masked: torch.Tensor = logits.masked_fill(~present, -torch.inf)
        return masked
