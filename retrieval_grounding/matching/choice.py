"""Choosing what to make of a trained network, and comparing it with others on held-out images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .comparison import Comparison, compare
from .held_out import HeldOut, Outcome, Scores
from .label_matcher import LabelMatcher
from .matcher import Matcher
from .names import COSINE, COSINE_LABEL
from .recipe import Recipe

__all__ = ["Candidate", "Choice", "choose", "compare_all"]


_WEIGHTS = (0.0, 0.25, 0.5, 0.75)
"""Shares of ``cosine+label`` that are tried."""

_FEW_IMAGES, _ENOUGH_IMAGES = 10, 30
"""Held-out images from which a choice of two, and of all candidates, means something."""


@dataclass(frozen=True)
class Candidate:
    """A matcher that can be installed.

    Parameters
    ----------
    share : float
        How far the network is from the one it started from, to where training ended: between 0
        and 1.
    recipe : Recipe
        What is combined with it.
    """

    share: float
    recipe: Recipe


@dataclass(frozen=True)
class Choice:
    """The candidate that was chosen, and how right it is.

    Parameters
    ----------
    candidate : Candidate
        The best on all held-out examples.
    outcome : Outcome
        Of each half of these by the candidate that is best on the other half, so that choosing
        does not make the figures better than they are.
    """

    candidate: Candidate
    outcome: Outcome


def choose(
    halves: Sequence[HeldOut],
    networks: Mapping[float, Matcher],
    label: LabelMatcher,
    anchors: Mapping[str, Matcher],
    *,
    only_anchored: bool,
) -> Choice:
    """Choose among shares of training, weights of ``cosine+label``, and anchors.

    Parameters
    ----------
    halves : sequence of HeldOut
        Two parts of the held-out examples, of different images.
    networks : mapping of float to Matcher
        By share; 1 is the network as training ended.
    label : LabelMatcher
        To blend with.
    anchors : mapping of str to Matcher
        By the names that recipes give them.
    only_anchored : bool
        Nothing is known about the order of images but what pseudo-queries say, so it is left to
        the first of `anchors`.
    """
    others = {name: [half.scores(matcher) for half in halves] for name, matcher in anchors.items()}
    labels = others.get(COSINE_LABEL) or [half.scores(label) for half in halves]
    label_spread = _spread(halves, labels)
    images = sum(len(np.unique(half.examples.image)) for half in halves)
    enough = images >= _ENOUGH_IMAGES
    weights: tuple[float, ...] = (0.0,)
    if images >= _FEW_IMAGES and not only_anchored:
        weights = _WEIGHTS if enough else (0.0, 0.5)
    if not enough:
        networks = dict(list(networks.items())[:1])
    outcomes: dict[Candidate, list[Outcome]] = {}
    for share, network in networks.items():
        own = [half.scores(network) for half in halves]
        spreads = (_spread(halves, own), label_spread)
        for weight in weights:
            recipe = Recipe(weight, label.scale, spreads)
            pairs = zip(own, labels, strict=True)
            mixed = [a.blended(b, weight, spreads) if weight else a for a, b in pairs]
            if not only_anchored:
                outcomes[Candidate(share, recipe)] = _outcomes(halves, mixed)
            for name, scores in others.items() if enough or only_anchored else ():
                both = (_spread(halves, scores), _spread(halves, mixed))
                anchored = [
                    half.anchored(a, b, both)
                    for half, a, b in zip(halves, scores, mixed, strict=True)
                ]
                candidate = Candidate(share, replace(recipe, anchor=name, anchor_spreads=both))
                outcomes[candidate] = _outcomes(halves, anchored)
                if only_anchored:
                    break
    first, second = (
        max(outcomes, key=lambda candidate: outcomes[candidate][half].value) for half in (0, 1)
    )
    both_halves = {candidate: _joined(found) for candidate, found in outcomes.items()}
    best = max(both_halves, key=lambda candidate: both_halves[candidate].value)
    return Choice(best, _joined([outcomes[second][0], outcomes[first][1]]))


def compare_all(
    choice: Choice,
    halves: Sequence[HeldOut],
    others: Mapping[str, Matcher],
    in_use: str | None,
    fair: Mapping[str, npt.NDArray[np.bool_]],
) -> tuple[list[Comparison], list[str]]:
    """Compare the chosen candidate with other matchers.

    Parameters
    ----------
    choice : Choice
        From :func:`choose`.
    halves : sequence of HeldOut
        As for :func:`choose`.
    others : mapping of str to Matcher
        By name.
    in_use : str or None
        The one of `others` that the index uses.
    fair : mapping of str to bool array
        Numbers of images that a matcher was not trained on, as a mask, for those of `others` that
        were trained on some.

    Returns
    -------
    comparisons : list of Comparison
        In the order of `others`.
    left_out : list of str
        Names of those that were trained on every held-out image.
    """
    comparisons, left_out = [], []
    for name, matcher in others.items():
        theirs = _joined(_outcomes(halves, [half.scores(matcher) for half in halves]))
        ours = choice.outcome
        if name in fair:
            rows = fair[name][ours.images]
            if not rows.any():
                left_out.append(name)
                continue
            ours, theirs = ours.take(rows), theirs.take(rows)
        simple = name in (COSINE, COSINE_LABEL)
        shown = "the matcher in use" if name == in_use and not simple else name
        comparisons.append(compare(shown, ours, theirs, in_use=name == in_use))
    return comparisons, left_out


def _outcomes(halves: Sequence[HeldOut], scores: Sequence[Scores]) -> list[Outcome]:
    return [half.outcome(part) for half, part in zip(halves, scores, strict=True)]


def _joined(outcomes: Sequence[Outcome]) -> Outcome:
    return Outcome(
        *(
            np.concatenate([getattr(outcome, name) for outcome in outcomes])
            for name in ("images", "iou", "rank")
        )
    )


def _spread(halves: Sequence[HeldOut], scores: Sequence[Scores]) -> float:
    """Return the standard deviation of scores within an image; 1 if all are equal."""
    variances = [half.variance(part) for half, part in zip(halves, scores, strict=True)]
    return float(np.sqrt(np.mean(variances))) or 1.0
