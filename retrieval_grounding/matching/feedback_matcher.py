"""The matcher that listens: another one's scores, moved by what people liked and disliked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.phrases import Phrases
from ..core.region_table import RegionTable
from .calibration import Calibration
from .matcher import Matcher

__all__ = ["FeedbackMatcher", "Shift"]

FloatArray = npt.NDArray[np.float32]

_STRENGTH = 0.5
"""Weight of likeness, in spreads of a phrase's scores; see scripts/measure_feedback.py."""

_LARGEST = 1.5
"""The largest change by likeness, in the same units."""

_JUDGED = 2.5
"""The change for a region that somebody has judged, in the same units."""

_PRIOR_THUMBS = 1.0
"""One thumb counts half of what many of the same kind do."""

_PULL = 0.5
"""How far candidates are drawn to what is liked: in spreads of the phrase's cosines."""

_SAME = 0.999
"""Cosine from which two regions are the same one; embeddings are stored in float16."""

_LEAST_SPREAD = 1e-3


@dataclass(frozen=True)
class Shift:
    """How thumbs for a phrase change the scores of regions (Rocchio, Relevance feedback, 1971).

    Parameters
    ----------
    judged : float32 array of shape (k, d)
        Embeddings of the regions that were judged.
    changes : float32 array of shape (k,)
        What their scores change by.
    direction : float32 array of shape (d,)
        From what is usual to what is liked, and away from what is not.
    center : float
        How far a usual region is in that direction.
    largest : float
        The largest change.
    by_likeness : float
        The largest change of a region that nobody has judged.
    pull : float
        How far a phrase's embedding moves in that direction, by the spread of its cosines with
        regions, to find candidates; 0 if nothing was liked.
    """

    judged: FloatArray
    changes: FloatArray
    direction: FloatArray
    center: float
    largest: float
    by_likeness: float
    pull: float

    @classmethod
    def of(
        cls,
        liked: FloatArray,
        disliked: FloatArray,
        sample: FloatArray,
        spread: float,
        weights: tuple[FloatArray, FloatArray] | None = None,
    ) -> Shift:
        """Return what thumbs mean.

        Parameters
        ----------
        liked, disliked : float32 arrays of shape (a, d) and (b, d)
            Embeddings of regions, of unit length.
        sample : float32 array of shape (n, d)
            Some regions of the collection: what they have in common says nothing.
        spread : float
            Standard deviation of the phrase's scores over these.
        weights : tuple of float32 arrays of shape (a,) and (b,), optional
            Between 0 and 1: less for thumbs for a phrase that is only near the one that was asked.
        """
        if weights is None:
            weights = np.ones(len(liked), np.float32), np.ones(len(disliked), np.float32)
        center = sample.mean(axis=0)
        cosines = (sample @ sample.T)[~np.eye(len(sample), dtype=bool)]
        usual = max(float(cosines.std()) if len(cosines) else 0.0, _LEAST_SPREAD)
        direction = np.zeros(sample.shape[1], np.float32)
        # What was disliked counts by the share of thumbs that are up. If everything was, the
        # direction away from it is just that away from what the phrase says.
        share = float(weights[0].sum() / max(weights[0].sum() + weights[1].sum(), 1e-9))
        for regions, own, sign in ((liked, weights[0], 1.0), (disliked, weights[1], -share)):
            direction += sign * (own @ (regions - center)) / (own.sum() + _PRIOR_THUMBS)
        direction *= np.float32(_STRENGTH * spread / usual)
        along = float((sample @ direction).std())
        return cls(
            judged=np.concatenate([liked, disliked]).astype(np.float32),
            changes=np.concatenate([weights[0], -weights[1]]) * np.float32(_JUDGED * spread),
            direction=direction.astype(np.float32),
            center=float(center @ direction),
            largest=_JUDGED * spread,
            by_likeness=_LARGEST * spread,
            pull=_PULL / along if len(liked) and along > 0 else 0.0,
        )

    def change(self, regions: FloatArray) -> FloatArray:
        """Return what to add to the scores of n regions, given their embeddings, (n, d)."""
        limit = self.by_likeness
        change = np.clip(regions @ self.direction - self.center, -limit, limit)
        for one, own in zip(self.judged, self.changes.tolist(), strict=True):
            same = regions @ one >= _SAME
            # The latest thumb for what looks exactly the same is the last.
            change[same] = own
        return np.asarray(change, np.float32)

    def moved(self, phrase: FloatArray, spread: float) -> FloatArray:
        """Return the embedding of a phrase, moved towards what is liked, to find candidates.

        Parameters
        ----------
        phrase : float32 array of shape (d,)
            Of unit length.
        spread : float
            Standard deviation of its cosines with regions.
        """
        moved = phrase + np.float32(self.pull * spread) * self.direction
        return np.asarray(moved / (np.linalg.norm(moved) or 1.0), np.float32)


@dataclass(frozen=True)
class FeedbackMatcher:
    """Scores as `base` does, and adds what feedback says about the phrases in `shifts`.

    Other phrases have the scores of `base`. The change is bounded, so the text stays what counts
    most, and depends on a region alone, so scores of different images still compare.

    Parameters
    ----------
    base : Matcher
        The matcher in use.
    shifts : mapping of str to Shift
        By phrase.
    sample : float32 array of shape (n, d)
        Some regions of the collection.

    Examples
    --------
    >>> from retrieval_grounding.matching.matcher import CosineMatcher
    >>> regions = np.eye(4, dtype=np.float32)
    >>> shift = Shift.of(regions[:1], regions[1:2], regions, spread=0.1)
    >>> shift.change(regions[:2]).tolist()
    [0.25, -0.25]
    >>> FeedbackMatcher(CosineMatcher(), {"a dog": shift}, regions).name
    'cosine'
    """

    base: Matcher
    shifts: Mapping[str, Shift]
    sample: FloatArray

    @property
    def name(self) -> str:
        """That of the matcher whose scores are changed."""
        return self.base.name

    @property
    def calibration(self) -> Calibration | None:
        """That of the matcher whose scores are changed, if it has one."""
        found = getattr(self.base, "calibration", None)
        return found if isinstance(found, Calibration) else None

    @property
    def file(self) -> Path | None:
        """The file of the matcher whose scores are changed, if it has one."""
        found = getattr(self.base, "file", None)
        return found if isinstance(found, Path) else None

    def score(self, phrases: Phrases, regions: RegionTable) -> FloatArray:
        """Return the scores (p, n) of p phrases and n regions; see :meth:`.Matcher.score`."""
        scores = self.base.score(phrases, regions)
        if self._concerns(phrases):
            scores = scores + self.explain(phrases, regions)["feedback"]
        return scores

    def score_pairs(
        self, phrases: Phrases, regions: RegionTable, phrase_rows: npt.NDArray[np.int64]
    ) -> FloatArray:
        """Return scores (n,), each image for its own phrase; see :meth:`.Matcher.score_pairs`."""
        scores = self.base.score_pairs(phrases, regions, phrase_rows)
        if not self._concerns(phrases):
            return scores
        scores = scores.copy()
        of_region = np.repeat(phrase_rows, np.diff(regions.offsets))
        for row, text in enumerate(phrases.texts):
            if text in self.shifts:
                own = np.flatnonzero(of_region == row)
                scores[own] += self.shifts[text].change(regions.embeddings[own].astype(np.float32))
        return scores

    def probabilities(self, scores: FloatArray) -> FloatArray | None:
        """Return those that the other matcher gives such scores."""
        return self.base.probabilities(scores)

    def explain(self, phrases: Phrases, regions: RegionTable) -> dict[str, FloatArray]:
        """Return parts of the scores, (p, n): what feedback adds, and what the other one says."""
        changes = np.zeros((len(phrases), len(regions)), np.float32)
        embeddings = regions.embeddings.astype(np.float32)
        for row, text in enumerate(phrases.texts):
            if text in self.shifts:
                changes[row] = self.shifts[text].change(embeddings)
        explain = getattr(self.base, "explain", None)
        return (explain(phrases, regions) if callable(explain) else {}) | {"feedback": changes}

    def sought(self, phrases: Phrases) -> Phrases:
        """Return phrases as candidates are searched for: nearer to what is liked."""
        if not self._concerns(phrases):
            return phrases
        moved = phrases.embeddings.copy()
        for row, text in enumerate(phrases.texts):
            if text in self.shifts:
                spread = float((self.sample @ moved[row]).std()) if len(self.sample) else 0.0
                moved[row] = self.shifts[text].moved(moved[row], spread)
        return Phrases(phrases.texts, moved, phrases.parts)

    def _concerns(self, phrases: Phrases) -> bool:
        return any(text in self.shifts for text in phrases.texts)
