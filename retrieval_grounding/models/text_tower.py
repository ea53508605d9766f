"""What embeds phrases: a text tower with its tokenizer, loaded by open_clip or by this library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

__all__ = ["OpenClipText", "TextTower", "knows_a_word"]

_SHORTEST_STEM = 3
_FUNCTION_WORDS = frozenset(
    "a an and are at by for from in is it of on or that the to with".split()
)


class TextTower(Protocol):
    """A tokenizer and a network that embeds what it returns."""

    def embed(self, phrases: Sequence[str]) -> torch.Tensor:
        """Return unit-length embeddings of phrases, a tensor of shape (n, d)."""
        ...

    def pieces(self, phrase: str) -> list[str] | None:
        """Return the word pieces of a phrase, or None if the tokenizer has no unknown words.

        A piece that continues a word begins with ``##``; an empty one replaces a word that
        cannot be spelled.
        """
        ...


class OpenClipText:
    """The text tower of a model that open_clip has loaded.

    Parameters
    ----------
    model
        open_clip's model, in evaluation mode.
    tokenizer
        open_clip's tokenizer of the model.
    device : str
        Where the model is.
    """

    def __init__(self, model: Any, tokenizer: Any, device: str) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._device = device

    def embed(self, phrases: Sequence[str]) -> torch.Tensor:
        """Return unit-length embeddings of phrases, (n, d)."""
        tokens = self._tokenizer(list(phrases)).to(self._device)
        embeddings: torch.Tensor = self._model.encode_text(tokens, normalize=True)
        return embeddings

    def pieces(self, phrase: str) -> list[str] | None:
        """Return the word pieces of a phrase; see :class:`TextTower`."""
        tokenizer: Any = getattr(self._tokenizer, "tokenizer", None)
        unknown = getattr(tokenizer, "unk_token", None)
        if unknown is None:
            return None
        return ["" if piece == unknown else piece for piece in tokenizer.tokenize(phrase)]


def knows_a_word(tower: TextTower, phrase: str) -> bool:
    """Return whether a tower's tokenizer knows a word of a phrase, function words aside.

    A word piece tokenizer spells a word that it does not know, letter by letter at worst, or
    replaces it. Tokenizers of bytes have no unknown words.
    """
    pieces = tower.pieces(phrase)
    if pieces is None:
        return True
    words: list[list[str]] = []
    for piece in pieces:
        if piece.startswith("##") and words:
            words[-1].append(piece)
        else:
            words.append([piece])
    return any(
        first not in _FUNCTION_WORDS
        and any(character.isalnum() for character in first)
        and (not rest or len(first) >= _SHORTEST_STEM)
        for first, *rest in words
    )
