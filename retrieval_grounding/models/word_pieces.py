"""BERT's tokenizer as open_clip uses it, without transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

__all__ = ["WordPieces"]


class WordPieces:
    """Turns phrases into ids of word pieces; threads may share it.

    Parameters
    ----------
    file : Path
        ``tokenizer.json``.
    context : int
        Most ids of a phrase, at least 2; the rest of a longer one is cut off.
    settings : dict
        Content of ``tokenizer_config.json``.

    Attributes
    ----------
    padding : int
        The id that fills up shorter phrases.
    size : int
        Number of ids.

    Raises
    ------
    ValueError
        If the tokenizer does not enclose a phrase in one special token on each side, or
        transformers would add some that are not in its file.
    Exception
        If the file cannot be read; the library of tokenizers has no type of its own.
    """

    def __init__(self, file: Path, context: int, settings: dict[str, Any]) -> None:
        self._tokenizer: Any = Tokenizer.from_file(str(file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._context = context
        self._unknown = settings["unk_token"]
        named = {name for key, name in settings.items() if key.endswith("_token")}
        added = self._tokenizer.get_added_tokens_decoder().values()
        if not named <= {token.content for token in added if token.special}:
            raise ValueError("a special token is not in the tokenizer's file")
        if self.ids("") != [self._id(settings["cls_token"]), self._id(settings["sep_token"])]:
            raise ValueError("the tokenizer encloses phrases in other tokens")
        self.padding = self._id(settings["pad_token"])
        self.size: int = self._tokenizer.get_vocab_size()

    def ids(self, phrase: str) -> list[int]:
        """Return the ids of a phrase and of the special tokens around it."""
        ids: list[int] = self._tokenizer.encode(_clean(phrase)).ids
        return ids if len(ids) <= self._context else [*ids[: self._context - 1], ids[-1]]

    def pieces(self, phrase: str) -> list[str]:
        """Return the word pieces of a phrase; an empty one stands for what is unknown."""
        pieces = self._tokenizer.encode(phrase, add_special_tokens=False).tokens
        return ["" if piece == self._unknown else piece for piece in pieces]

    def _id(self, token: str) -> int:
        number: int | None = self._tokenizer.token_to_id(token)
        if number is None:
            raise ValueError(f"the tokenizer has no token {token!r}")
        return number


def _clean(text: str) -> str:
    """Mend text as open_clip does: broken encodings, HTML entities, white space."""
    if not (text.isascii() and text.isprintable()) or "&" in text:
        import html  # nothing of other texts would be mended

        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split())
