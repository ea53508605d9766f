"""The guard: what fine-tuning may cost, and which of several results is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["MAY_FALL", "Figures", "Verdict", "choose"]

Figures = Mapping[str, float]
"""Measures by name, each the larger the better; NaN where nothing could be measured."""

MAY_FALL = 0.01
"""How far a guarded figure may fall: one point."""

_NEARLY_BEST = 0.005


@dataclass(frozen=True)
class Verdict:
    """What the guard decided.

    Parameters
    ----------
    chosen : float
        The candidate to keep; 0 stands for the original.
    reason : str
        Why the original is kept, as half a sentence; empty if it is not.
    fallen : mapping of float to list of str
        For each candidate, the guarded figures that fall too far.
    """

    chosen: float
    reason: str
    fallen: Mapping[float, list[str]]


def choose(
    before: Figures,
    candidates: Mapping[float, Figures],
    goal: str,
    guarded: Sequence[str],
    may_fall: float = MAY_FALL,
) -> Verdict:
    """Choose the candidate that gains without forgetting.

    It is the smallest within half a point of the best `goal` of those that are better than the
    original and whose guarded figures fall by at most `may_fall`: the smallest forgets least.

    Parameters
    ----------
    before : mapping of str to float
        The figures of the original.
    candidates : mapping of float to Figures
        Those of each candidate, such as the shares of new weights.
    goal : str
        Name of the figure to raise.
    guarded : sequence of str
        Names of the figures to protect; one that is NaN before protects nothing.
    may_fall : float
        How far each of them may fall.

    Examples
    --------
    >>> before = {"accuracy": 0.50, "names": 0.70}
    >>> shares = {0.5: {"accuracy": 0.60, "names": 0.70}, 1.0: {"accuracy": 0.65, "names": 0.60}}
    >>> choose(before, shares, "accuracy", ["names"]).chosen
    0.5
    >>> choose(before, {1.0: shares[1.0]}, "accuracy", ["names"]).reason
    'names falls by more than 0.01'
    """
    # A figure that is NaN afterwards has been lost, so the comparison is not the other way around.
    fallen = {
        candidate: [
            name for name in guarded
            if before[name] == before[name] and not before[name] - figures[name] <= may_fall
        ]
        for candidate, figures in candidates.items()
    }  # fmt: skip
    better = {
        candidate: figures[goal]
        for candidate, figures in candidates.items()
        if figures[goal] > before[goal]
    }
    allowed = {candidate: value for candidate, value in better.items() if not fallen[candidate]}
    if allowed:
        best = max(allowed.values())
        nearly = [candidate for candidate, value in allowed.items() if value >= best - _NEARLY_BEST]
        return Verdict(min(nearly), "", fallen)
    if not better:
        return Verdict(0.0, f"{goal} does not rise", fallen)
    names = dict.fromkeys(name for candidate in better for name in fallen[candidate])
    by = f" by more than {may_fall:g}" if may_fall else ""
    return Verdict(0.0, f"{' and '.join(names)} falls{by}", fallen)
