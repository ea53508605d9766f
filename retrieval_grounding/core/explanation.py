"""Why a hit was found: the parts of its score, and what its probability stands on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .types import Box

__all__ = ["ClauseProbability", "Explanation", "RunnerUp", "ScorePart"]


@dataclass(frozen=True)
class ScorePart:
    """What one kind of evidence adds to a score.

    Parameters
    ----------
    name : str
        ``"appearance"``, ``"label"``, ``"color"``, ``"place"``, ``"relation"``, or a name that the
        matcher gives.
    value : float
        How much lower the score would be without it; negative if it speaks against the region.
    """

    name: str
    value: float


@dataclass(frozen=True)
class RunnerUp:
    """The second best region of the same image."""

    box: Box
    label: str
    score: float
    probability: float | None


@dataclass(frozen=True)
class ClauseProbability:
    """What one phrase of a query adds to the probability of a hit.

    Parameters
    ----------
    clause : str
        ``"wanted"``, ``"also"`` or ``"unwanted"``.
    phrase : str
        The phrase.
    probability : float or None
        That it is there. The hit's probability is the product of these, or for what is unwanted, of
        one minus these.
    """

    clause: str
    phrase: str
    probability: float | None


@dataclass(frozen=True)
class Explanation:
    """Why a hit was found.

    Parameters
    ----------
    phrase : str
        What the score is about; empty if only an example was given.
    score : float
        The matcher's score of the region for the phrase.
    probability : float or None
        Of the hit.
    cosine : float or None
        Of the embeddings of region and phrase.
    label : str
        The detector's guess.
    label_cosine : float or None
        Of the embeddings of label and phrase; None for the whole image.
    colors : dict of str to float
        Share of the middle of the region that the colors named in the phrase cover; the largest
        shares if it names none.
    parts : tuple of ScorePart
        What adds up to the score, roughly: evidence overlaps, so the sum differs from the score.
    runner_up : RunnerUp or None
        None if the image has one region.
    clauses : tuple of ClauseProbability
        The phrases of the query.
    likeness : tuple of float
        Cosines with the examples of the query.
    calibration : str
        What the probability was calibrated on.
    """

    phrase: str
    score: float
    probability: float | None
    cosine: float | None
    label: str
    label_cosine: float | None
    colors: dict[str, float]
    parts: tuple[ScorePart, ...]
    runner_up: RunnerUp | None
    clauses: tuple[ClauseProbability, ...]
    likeness: tuple[float, ...]
    calibration: str

    def as_dict(self) -> dict[str, Any]:
        """Return the explanation as plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = []
        if self.cosine is not None:
            lines.append(f"score {self.score:.3f} for {self.phrase!r}, cosine {self.cosine:.3f}")
            parts = ", ".join(f"{part.name} {part.value:+.2f}" for part in self.parts)
            lines.append(f"parts: {parts}")
        label = f"label {self.label}"
        if self.label_cosine is not None:
            label += f", cosine with the phrase {self.label_cosine:.3f}"
        lines.append(label)
        if self.colors:
            shares = [f"{name} {share:.0%}" for name, share in self.colors.items()]
            lines.append(f"colors: {', '.join(shares)}")
        lines += [f"like the example: cosine {cosine:.3f}" for cosine in self.likeness]
        for clause in self.clauses if len(self.clauses) > 1 else ():
            lines.append(f"{clause.clause} {clause.phrase!r}: {_percent(clause.probability)}")
        if self.runner_up is not None:
            second = self.runner_up
            box = " ".join(f"{value:.0f}" for value in second.box)
            lines.append(
                f"runner-up in this image: {second.label} at {box}, score {second.score:.3f}, "
                f"probability {_percent(second.probability)}"
            )
        lines.append(f"probability {_percent(self.probability)}: {self.calibration}")
        return "\n".join(lines)


def _percent(probability: float | None) -> str:
    return "unknown" if probability is None else f"{probability:.0%}"
