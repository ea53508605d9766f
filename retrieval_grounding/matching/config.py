"""What determines a matcher network, without PyTorch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["MATCHER_FORMAT", "MatcherConfig"]


MATCHER_FORMAT = 3
"""Version of matcher files and of the networks that they hold."""

_MAX_SIZE = 1 << 16


@dataclass(frozen=True)
class MatcherConfig:
    """What determines a network's shape.

    Parameters
    ----------
    kind : str
        ``"residual"`` or ``"concat"``.
    dimension : int
        Length of the embeddings that the network looks into; 0 for a network that sees only how
        similar they are, which any encoder's embeddings serve.
    words : int
        Size of the vocabulary.
    width : int
        Hidden units, an even number.
    """

    kind: Literal["residual", "concat"]
    dimension: int
    words: int
    width: int = 64

    @property
    def name(self) -> str:
        """Name in tables: ``"matcher"``, or the network's kind if it is not the residual one."""
        return "matcher" if self.kind == "residual" else self.kind

    @property
    def any_encoder(self) -> bool:
        """Whether the network serves every encoder: it sees only how similar embeddings are."""
        return self.kind == "residual" and not self.dimension

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Any) -> MatcherConfig:
        """Return the configuration of :meth:`as_dict`.

        Raises
        ------
        TypeError, ValueError
            If a value is missing, of a wrong type or impossible.
        """
        config = cls(**value)
        sizes = (config.dimension, config.words, config.width)
        if config.kind not in ("residual", "concat") or any(
            type(size) is not int for size in sizes
        ):
            raise TypeError(f"its configuration is {value}")
        if min(sizes) < 0 or max(sizes) > _MAX_SIZE:
            raise ValueError(f"its configuration is {value}")
        return config
