"""A BERT text tower in PyTorch alone: importing transformers takes longer than its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional

from .bert_shape import BertShape
from .word_pieces import WordPieces

__all__ = ["BertText"]

_ROOT = "text.transformer."


class BertText:
    """BERT, the mean of its outputs, and a projection of two layers, as open_clip builds them.

    Parameters
    ----------
    shape : BertShape
        Sizes.
    weights : mapping of str to tensor
        Those that `shape` names, float32.
    tokenizer : WordPieces
        Turns phrases into ids.
    device : str
        Where to run.
    """

    def __init__(
        self,
        shape: BertShape,
        weights: Mapping[str, torch.Tensor],
        tokenizer: WordPieces,
        device: str,
    ) -> None:
        self._shape = shape
        self._weights = {name: weight.to(device) for name, weight in weights.items()}
        self._tokenizer = tokenizer
        self._device = device

    def pieces(self, phrase: str) -> list[str] | None:
        """Return the word pieces of a phrase; see :class:`.text_tower.TextTower`."""
        return self._tokenizer.pieces(phrase)

    def embed(self, phrases: Sequence[str]) -> torch.Tensor:
        """Return unit-length embeddings of phrases, (n, d)."""
        ids = [self._tokenizer.ids(phrase) for phrase in phrases]
        longest = max(map(len, ids))
        padded = [own + [self._shape.pad_token_id] * (longest - len(own)) for own in ids]
        tokens = torch.tensor(padded, device=self._device)
        present = tokens != self._shape.pad_token_id
        hidden = self._embed_tokens(tokens)
        for number in range(self._shape.num_hidden_layers):
            hidden = self._layer(f"encoder.layer.{number}.", hidden, present)
        mean = (hidden * present[:, :, None]).sum(1) / present.sum(1, keepdim=True)
        first, second = (self._weights[f"text.proj.{number}.weight"] for number in (0, 2))
        projected = functional.linear(functional.gelu(functional.linear(mean, first)), second)
        return functional.normalize(projected, dim=-1)

    def _embed_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        words, places, types = (
            self._weights[f"{_ROOT}embeddings.{name}_embeddings.weight"]
            for name in ("word", "position", "token_type")
        )
        summed = functional.embedding(tokens, words) + types[0] + places[: tokens.shape[1]]
        return self._norm("embeddings.LayerNorm", summed)

    def _layer(self, name: str, hidden: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Return the output of one layer, (n, length, width)."""
        heads = self._shape.num_attention_heads
        query, key, value = (
            self._linear(f"{name}attention.self.{part}", hidden)
            .view(*hidden.shape[:2], heads, -1)
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        attended = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=present[:, None, None]
        )
        attended = self._linear(
            f"{name}attention.output.dense", attended.transpose(1, 2).flatten(2)
        )
        hidden = self._norm(f"{name}attention.output.LayerNorm", attended + hidden)
        inner = functional.gelu(self._linear(f"{name}intermediate.dense", hidden))
        return self._norm(
            f"{name}output.LayerNorm", self._linear(f"{name}output.dense", inner) + hidden
        )

    def _linear(self, name: str, values: torch.Tensor) -> torch.Tensor:
        weight, bias = self._pair(name)
        return functional.linear(values, weight, bias)

    def _norm(self, name: str, values: torch.Tensor) -> torch.Tensor:
        weight, bias = self._pair(name)
        size, epsilon = [self._shape.hidden_size], self._shape.layer_norm_eps
        return functional.layer_norm(values, size, weight, bias, epsilon)

    def _pair(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return self._weights[f"{_ROOT}{name}.weight"], self._weights[f"{_ROOT}{name}.bias"]
