"""The weights of the residual network, as scoring a phrase needs them: derived from it once.

A step costs more than the numbers in it, so whatever can be joined without changing the result is
one matrix here.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from .attention import HEADS, RelationAttention
from .noun_ranks import RANK_FEATURES
from .phrase_batch import NOUN, PARTS
from .residual_model import ResidualModel
from .word_encoder import WordEncoder

__all__ = ["FlatAttention", "FlatModel", "FlatWords", "Linear", "Norm"]


_NAMES = 3  # phrase, target and noun may be the name of a label
_NOUN_WEIGHTS = 0.6, 0.4  # of a region and of its label, see .similarities


class Linear:
    """A linear layer for inputs in rows, without what a module does beside it."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self.weight, self.bias = weight.detach(), bias.detach()
        self._turned = self.weight.T

    @classmethod
    def of(cls, layer: nn.Module) -> Linear:
        """Return a layer of a network."""
        assert isinstance(layer, nn.Linear)
        return cls(layer.weight, layer.bias)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return outputs (n, outputs) of inputs (n, inputs)."""
        return torch.addmm(self.bias, rows, self._turned)


class Norm:
    """A layer norm, likewise."""

    def __init__(self, layer: nn.Module) -> None:
        assert isinstance(layer, nn.LayerNorm) and layer.bias is not None
        self.weight, self.bias, self.eps = layer.weight.detach(), layer.bias.detach(), layer.eps
        self._shape = list(layer.normalized_shape)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows (n, width), normalized."""
        return torch.layer_norm(rows, self._shape, self.weight, self.bias, self.eps)


class FlatThought:
    """The two layers that add to states what they say by themselves."""

    def __init__(self, think: nn.Module) -> None:
        assert isinstance(think, nn.Sequential)
        self._norm, self._up, self._down = Norm(think[0]), Linear.of(think[1]), Linear.of(think[3])

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Return states (n, width), after adding to them in place."""
        return states.add_(self._down(self._up(self._norm(states)).relu_()))


class FlatWords:
    """A :class:`.word_encoder.WordEncoder` for one phrase."""

    def __init__(self, words: WordEncoder) -> None:
        self._word, self._place = words.word.weight.detach(), words.place.weight.detach()
        self._role = words.role.weight.detach()
        self._norm, self._last = Norm(words.norm), Norm(words.last)
        self._joint, self._out = Linear.of(words.joint), Linear.of(words.out)
        self._think = FlatThought(words.think)
        self._width = self._word.shape[1]

    def __call__(self, words: torch.Tensor, roles: torch.Tensor) -> torch.Tensor:
        """Return the states (k, width) of the k words of a phrase, from int64 tensors (k,)."""
        count, head = len(words), self._width // HEADS
        hidden = self._word.index_select(0, words).add_(self._place[:count])
        hidden += self._role.index_select(0, roles)
        query, key, value = (
            self._joint(self._norm(hidden)).view(count, 3, HEADS, head).permute(1, 2, 0, 3)
        )
        shares = torch.bmm(query, key.transpose(1, 2)).div_(math.sqrt(head)).softmax(-1)
        gathered = torch.bmm(shares, value).transpose(0, 1).reshape(count, -1)
        hidden += self._out(gathered)
        return self._last(self._think(hidden))


class FlatAttention:
    """Attention among regions where few of them ask, without keys, values or normalized states.

    Queries are taken to the states of the others: ``q · (K h) = (K' q) · h``. Of the layer norm
    before it, the affine part and the mean join the weights, because subtracting the mean of states
    is the same as subtracting that of weights. What is left of it is one factor for each region.

    Attributes
    ----------
    asks : tensor of shape (HEADS · width, width)
        Takes the state of a region, times its factor, to what it asks the others' states for.
    phrase_asks : Linear
        Takes the query of the phrase, (width,), to what is added to that.
    gives : Linear
        Takes sums of the others' states, times their factors, to what a region gathers.
    pairs : tensors of shapes (units, RELATION_FEATURES) and (units, 1)
        First layer of the bias for pairs of regions.
    """

    def __init__(self, attend: RelationAttention) -> None:
        norm = Norm(attend.norm)
        width, self._eps = len(norm.weight), norm.eps
        head = width // HEADS
        plain = attend.joint.weight.detach().view(3, HEADS, head, width)
        scaled = plain * norm.weight
        query, key, value = scaled - scaled.mean(-1, keepdim=True)
        key = key.transpose(1, 2) / math.sqrt(head)  # (HEADS, width, head)
        always = plain @ norm.bias  # (3, HEADS, head)
        of_phrase = torch.zeros(HEADS, width, HEADS, head)
        for number in range(HEADS):  # a head reads its own part of the phrase's query
            of_phrase[number, :, number] = key[number]
        out = attend.out.weight.detach().view(width, HEADS, head).transpose(0, 1)
        self.asks = (key @ query).flatten(0, 1)
        self.phrase_asks = Linear(
            of_phrase.view(HEADS * width, width), (key @ always[0][..., None]).flatten()
        )
        self.gives = Linear(
            (out @ value).transpose(0, 1).flatten(1),
            (out @ always[2][..., None]).sum(0)[:, 0] + attend.out.bias,
        )
        self.pairs = attend.first.weight.detach(), attend.first.bias.detach()[:, None]
        self._mean = torch.full((width,), 1 / width)

    def factors(self, states: torch.Tensor) -> torch.Tensor:
        """Return 1 / the standard deviation of the values of each state, (n,)."""
        mean = torch.mv(states, self._mean)
        squares = torch.linalg.vector_norm(states, dim=1).square_().div_(states.shape[1])
        variance = squares.addcmul_(mean, mean, value=-1).clamp_(min=0)
        factors: torch.Tensor = variance.add_(self._eps).rsqrt_()
        return factors


class FlatModel:
    """A :class:`.residual_model.ResidualModel`, which must not be changed afterwards.

    Only its early exit is not part of it.

    Attributes
    ----------
    width : int
        Length of the states.
    similar : tensor of shape (width, 1 + RANK_FEATURES + 4 · PARTS)
        The first layer of `similarities`, for the shown colors; ranks; cosines as they are; the
        highest of the image; those of the whole image; and those of labels. The columns of parts
        count only where the phrase has the part: `similar_present` numbers them, 0 for the others.
    similar_bias : Linear
        Takes what parts a phrase has to the bias of that layer.
    named : tensor of shape (width,)
        Is added to it if the phrase names colors.
    """

    def __init__(self, model: ResidualModel) -> None:
        self.width = model.width
        self.words = FlatWords(model.words)
        self.attend = FlatAttention(model.attend)
        self.think = FlatThought(model.think)
        self.answer = Norm(model.answer[0]), Linear.of(model.answer[1])
        self.relation = Linear.of(model.attend.relation)
        self.pairs = model.attend.second.weight.detach()
        self._read_phrase(model)
        self._read_similarities(model)
        ranks = model.ranks
        self.sharpness = float(ranks.sharpness.exp())
        self.margin = float(ranks.margin)
        self.trust = float(ranks.trust.abs())

    def _read_phrase(self, model: ResidualModel) -> None:
        """Set what makes of the phrase: 1 + scale, shift, bilinear, and what regions ask for."""
        width, second = model.width, Linear.of(model.phrase[2])
        asks = self.attend.phrase_asks
        bias = second.bias.clone()
        bias[:width] += 1
        self.phrase = Linear.of(model.phrase[0])
        self.modulation = Linear(
            torch.cat([second.weight[: 3 * width], asks.weight @ second.weight[3 * width :]]),
            torch.cat([bias[: 3 * width], asks.weight @ bias[3 * width :] + asks.bias]),
        )
        # Of words: what a region's state is multiplied with, what is added, and what it gets.
        words, ask = Linear.of(model.word_keys), Linear.of(model.ask)
        asking = torch.cat([ask.weight, ask.bias[:, None]], 1).T / math.sqrt(width)
        self.read_words = Linear(
            torch.cat([asking @ words.weight[:width], words.weight[width:]]),
            torch.cat([asking @ words.bias[:width], words.bias[width:]]),
        )

    def _read_similarities(self, model: ResidualModel) -> None:
        """Set what makes features of cosines.

        The network sees (c - mean) / spread, (c - highest) / spread and (whole - mean) / spread,
        and for labels the same as the first with their own mean and spread.
        """
        scale, first = model.similar, Linear.of(model.similarities[0])
        self.joined = Linear.of(model.similarities[2])
        mean, spread, self.label_mean, self.label_spread = scale.statistics.tolist()
        sizes = [RANK_FEATURES, *[PARTS] * 5, 2]
        ranks, own, labels, best, whole, present, colors = torch.split(first.weight, sizes, 1)
        of_parts = [(own + best) / spread, -best / spread, whole / spread, labels]
        self.similar = torch.cat([colors[:, :1], ranks, *of_parts], 1)
        parts = torch.arange(1, 1 + PARTS)
        self.similar_present = torch.cat([torch.zeros(1 + RANK_FEATURES).long(), *[parts] * 4])
        self.similar_bias = Linear(present - (own + whole) * (mean / spread), first.bias)
        self.named = colors[:, 1]
        mixture = (model.scale.exp() * scale.mixture).detach()
        self.guess_of_cosine = float(mixture[0]) / spread
        self.guess_bias = float(model.bias) - mean * self.guess_of_cosine
        self.noun_of_cosine = _NOUN_WEIGHTS[0] / spread
        # Rows of labels: their cosines, how well the noun fits, and what they add to the guess.
        self.of_labels = torch.cat([torch.eye(PARTS), torch.zeros(2, PARTS)])
        self.of_labels[PARTS, NOUN] = _NOUN_WEIGHTS[1]
        self.of_labels[PARTS + 1, :_NAMES] = mixture[1:]
