"""The slider of probabilities, and above it how probable the hits are."""

from __future__ import annotations

from dataclasses import dataclass

from .address import Address
from .asking import Answer

__all__ = ["Bar", "Sure", "sure"]

_BARS = 20
_HEIGHT = 20.0


@dataclass(frozen=True)
class Bar:
    """A bar of the histogram, in a picture of 100 × 20."""

    x: float
    width: float
    height: float
    inside: bool


@dataclass(frozen=True)
class Sure:
    """The slider."""

    percent: int
    bars: list[Bar]
    kept: list[tuple[str, str]]
    description: str


def sure(answer: Answer, address: Address) -> Sure:
    """Return the slider of an answer that has probabilities."""
    counts = [0] * _BARS
    for hit in answer.found:
        if hit.presence is not None:
            counts[min(_BARS - 1, int(hit.presence * _BARS))] += 1
    # The square root keeps a few good hits visible beside hundreds of improbable ones.
    tallest = max(counts) ** 0.5 or 1.0
    step = 100 / _BARS
    bars = [
        Bar(
            x=round(number * step + 0.5, 2),
            width=step - 1,
            height=round(max(1.2, _HEIGHT * count**0.5 / tallest), 2),
            inside=(number + 1) * step > address.percent,
        )
        for number, count in enumerate(counts)
        if count
    ]
    kept = [pair for pair in address.pairs() if pair[0] not in ("p", "page")]
    inside = len(answer.hits)
    text = f"{inside} of {len(answer.found)} photographs reach {address.percent} %"
    return Sure(address.percent, bars, kept, text)
