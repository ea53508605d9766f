"""The matchers' networks: a residual on cosine with attention, and the classic concat MLP."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from ..core.colors import COLORS
from .batch import ImageBatch
from .geometry import PLACE_SIZE, RELATION_SIZE, places, relations

__all__ = [
    "ConcatModel",
    "MatcherConfig",
    "MatcherModel",
    "PhraseBatch",
    "ResidualModel",
    "make_model",
]


_HEADS = 2
_PAIR_WIDTH = 12  # hidden units for each pair of regions, of which there are most


@dataclass(frozen=True)
class MatcherConfig:
    """What fixes a network's shape.

    Parameters
    ----------
    kind : str
        ``"residual"`` or ``"concat"``.
    dimension : int
        Length of the embeddings.
    words : int
        Size of the word vocabulary.
    width : int
        Hidden units, an even number.
    """

    kind: Literal["residual", "concat"]
    dimension: int
    words: int
    width: int = 64

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class PhraseBatch:
    """p phrases.

    Parameters
    ----------
    embeddings : float tensor of shape (p, d)
        Unit length.
    words, starts : int64 tensors
        As :func:`retrieval_grounding.matching.vocabulary.count_words` returns them.
    """

    embeddings: torch.Tensor
    words: torch.Tensor
    starts: torch.Tensor


@dataclass(frozen=True)
class Looked:
    """What a network makes of m images of n regions, whatever the phrase.

    Parameters
    ----------
    regions, bilinear : float tensors of shape (m, n, width)
        Regions as they are, and as they multiply with phrases.
    nearness : float tensor of shape (m, heads, n, n)
        How regions attend to each other.
    """

    regions: torch.Tensor
    bilinear: torch.Tensor
    nearness: torch.Tensor


class MatcherModel(nn.Module):
    """A network that first looks at images, once for all phrases, then judges pairs."""

    def forward(
        self, phrases: PhraseBatch, images: ImageBatch, phrase: torch.Tensor, image: torch.Tensor
    ) -> torch.Tensor:
        """Return logits of the regions of images for phrases, one row for each pair.

        Parameters
        ----------
        phrases : PhraseBatch
            p phrases.
        images : ImageBatch
            m images of n regions.
        phrase, image : int64 tensors of shape (pairs,)
            Which phrase meets which image.

        Returns
        -------
        tensor of shape (pairs, n)
            Minus infinity where there is no region.
        """
        return self.judge(phrases, images, self.look(images), phrase, image)

    def look(self, images: ImageBatch) -> Any:
        """Return what the network makes of images, for :meth:`judge`."""
        raise NotImplementedError

    def judge(
        self,
        phrases: PhraseBatch,
        images: ImageBatch,
        looked: Any,
        phrase: torch.Tensor,
        image: torch.Tensor | slice,
    ) -> torch.Tensor:
        """Return what :meth:`forward` does; a slice of images is taken without a copy."""
        raise NotImplementedError


class ResidualModel(MatcherModel):
    """``logit = s·cos(region, phrase) + b + f(interaction, geometry, context)``, f zero at first.

    f sees each region with the low-rank product of its embedding and the phrase's (Kim et al.,
    Hadamard product for low-rank bilinear pooling, 2017), its colors, label and place, modulated
    by the phrase (Perez et al., FiLM, 2018), then attends to the image's other regions with a bias
    for how they lie towards it.

    Parameters
    ----------
    config : MatcherConfig
        Shape.
    """

    def __init__(self, config: MatcherConfig) -> None:
        super().__init__()
        width, size = config.width, config.dimension
        self.scale = nn.Parameter(torch.tensor(math.log(20.0)))
        self.bias = nn.Parameter(torch.tensor(-4.0))
        self.words = nn.EmbeddingBag(max(config.words, 1), width, mode="sum")
        nn.init.zeros_(self.words.weight)  # a word never met says nothing
        self.phrase = nn.Sequential(
            nn.Linear(size + width, 2 * width), nn.ReLU(), nn.Linear(2 * width, 4 * width)
        )
        self.region = nn.Linear(2 * size, width)
        self.facts = nn.Sequential(
            nn.Linear(PLACE_SIZE + len(COLORS), width), nn.ReLU(), nn.Linear(width, width)
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

    def look(self, images: ImageBatch) -> Looked:
        """Return what the network makes of images before it hears a phrase."""
        related = relations(images)
        facts = torch.cat([places(images, related), images.colors.movedim(-1, 0)])
        facts = self.facts(facts.flatten(1).T).view(*images.present.shape, -1)
        labels = self.label(images.label_embeddings)[images.labels]
        # The product with each region beside its whole image, the latter's half taken once.
        own, beside = self.region.weight.chunk(2, dim=1)
        whole = functional.linear(images.embeddings[:, :1], beside, self.region.bias)
        both = functional.linear(images.embeddings, torch.cat([own, self.interact.weight]))
        shown, bilinear = both.chunk(2, dim=-1)
        return Looked(
            regions=facts.add_(shown).add_(labels).add_(whole),
            bilinear=bilinear,
            nearness=self.attend.nearness(related, images.present),
        )

    def judge(
        self,
        phrases: PhraseBatch,
        images: ImageBatch,
        looked: Looked,
        phrase: torch.Tensor,
        image: torch.Tensor | slice,
    ) -> torch.Tensor:
        """Return logits; see :meth:`MatcherModel.judge`."""
        said = torch.cat([phrases.embeddings, self.words(phrases.words, phrases.starts)], dim=-1)
        gain, shift, tone, query = self.phrase(said).chunk(4, dim=-1)
        present = images.present[image]
        meant = phrases.embeddings[phrase]
        cosine = (images.embeddings[image] @ meant[:, :, None]).squeeze(-1)
        named = (phrases.embeddings @ images.label_embeddings.T)[phrase]
        named = named.gather(1, images.labels[image])
        top = cosine.masked_fill(~present, -1).amax(1, keepdim=True)
        cosines = torch.stack([cosine, named, cosine - top], dim=-1)

        gain, shift, tone = (part[phrase][:, None] for part in (1 + gain, shift, tone))
        hidden = torch.addcmul(shift, looked.regions[image], gain)
        hidden = hidden.addcmul_(looked.bilinear[image], tone).add_(self.cosines(8 * cosines))
        hidden = hidden.relu_()
        hidden = self.attend(hidden, query[phrase], looked.nearness[image]).add_(hidden)
        hidden = self.think(hidden).add_(hidden)
        logits = self.scale.exp() * cosine + self.bias + self.answer(hidden).squeeze(-1)
        masked: torch.Tensor = logits.masked_fill(~present, -torch.inf)
        return masked


class RelationAttention(nn.Module):
    """Attention over the regions of an image, biased by how they lie towards each other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.joint = nn.Linear(width, 3 * width, bias=False)
        self.first = nn.Linear(RELATION_SIZE, _PAIR_WIDTH)
        self.second = nn.Linear(_PAIR_WIDTH, _HEADS, bias=False)  # softmax takes no notice of one
        self.out = nn.Linear(width, width)

    def nearness(self, related: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Return the bias (m, heads, n, n), minus infinity towards rows without a region.

        Parameters
        ----------
        related : tensor of shape (RELATION_SIZE, m, n, n)
            Of :func:`relations`.
        present : bool tensor of shape (m, n)
            Whether there is a region.
        """
        planes = related.flatten(2).movedim(1, 0)
        many = len(planes), -1, -1  # products of each image: a large one is too thin to be fast
        hidden = torch.bmm(self.first.weight.expand(many), planes)
        hidden = hidden.add_(self.first.bias[:, None]).relu_()
        bias = torch.bmm(self.second.weight.expand(many), hidden)
        bias = bias.view(*bias.shape[:2], *related.shape[2:])
        return bias.masked_fill_(~present[:, None, None], -torch.inf)

    def forward(
        self, hidden: torch.Tensor, wanted: torch.Tensor, nearness: torch.Tensor
    ) -> torch.Tensor:
        """Return what each region learns from the others, (k, n, width).

        Parameters
        ----------
        hidden : tensor of shape (k, n, width)
            Regions.
        wanted : tensor of shape (k, width)
            What the phrase looks for.
        nearness : tensor of shape (k, heads, n, n)
            Of `nearness`.
        """
        pairs, count, width = hidden.shape
        query, key, value = self.joint(self.norm(hidden)).chunk(3, dim=-1)
        query, key, value = (
            part.view(pairs, count, _HEADS, -1).transpose(1, 2)
            for part in (query + wanted[:, None], key, value)
        )
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=nearness)
        learnt: torch.Tensor = self.out(seen.transpose(1, 2).reshape(pairs, count, width))
        return learnt


class ConcatModel(MatcherModel):
    """The course project's classifier: an MLP on the concatenated region and phrase embeddings.

    Parameters
    ----------
    config : MatcherConfig
        Shape.
    """

    def __init__(self, config: MatcherConfig) -> None:
        super().__init__()
        self.region = nn.Linear(config.dimension + 4, 6 * config.width)
        self.phrase = nn.Linear(config.dimension, 6 * config.width, bias=False)
        self.rest = nn.Sequential(
            nn.ReLU(),
            nn.Linear(6 * config.width, 3 * config.width),
            nn.ReLU(),
            nn.Linear(3 * config.width, 1),
        )

    def look(self, images: ImageBatch) -> torch.Tensor:
        """Return the regions' half of the first layer; its other half is the phrase's."""
        regions: torch.Tensor = self.region(torch.cat([images.embeddings, images.boxes], dim=-1))
        return regions

    def judge(
        self,
        phrases: PhraseBatch,
        images: ImageBatch,
        looked: torch.Tensor,
        phrase: torch.Tensor,
        image: torch.Tensor | slice,
    ) -> torch.Tensor:
        """Return logits; see :meth:`MatcherModel.judge`."""
        said = self.phrase(phrases.embeddings)
        logits: torch.Tensor = self.rest(looked[image] + said[phrase][:, None]).squeeze(-1)
        return logits.masked_fill(~images.present[image], -torch.inf)


def make_model(config: MatcherConfig) -> MatcherModel:
    """Return an untrained network."""
    return ResidualModel(config) if config.kind == "residual" else ConcatModel(config)
