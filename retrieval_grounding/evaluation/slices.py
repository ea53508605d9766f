"""Slices: parts of a set of expressions with figures of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..core.groups import is_group, member_label
from ..core.regions import WHOLE_IMAGE
from ..data.expressions import Expression
from .predictions import RegionFacts

__all__ = ["slice_members"]


_SPATIAL = re.compile(
    r"\b(left|right|top|bottom|upper|lower|middle|cent(er|re)|corner|side|edge|front|back"
    r"|behind|above|below|under|beneath|between|near|nearest|next|beside|closest|close"
    r"|closer|far|farther|farthest|furthest|first|second|third|last|leftmost|rightmost|[0-9]+(st|nd"
    r"|rd|th)|background|foreground|around|inside|outside|against)\b",
    re.IGNORECASE,
)
_PEOPLE = frozenset("person man woman boy girl child people human baby".split())


def slice_members(
    expressions: Sequence[Expression], facts: RegionFacts
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which of n expressions belong to each slice, shape (n,); slices may overlap.

    If no detected region covers the object (IoU below 0.5), its class is unknown: the expression is
    in neither of the slices by distractors, and in those of people and things only if its file has
    a category. What a group region covers ("two dogs") is in the slice of groups and in neither of
    those by distractors either.

    Parameters
    ----------
    expressions : sequence of n Expression
        With boxes and image sizes of the index.
    facts : RegionFacts
        About the same expressions.

    Returns
    -------
    dict of str to bool array
        Only slices with members.
    """
    whole = np.array([label == WHOLE_IMAGE for label in facts.label])
    covered = facts.covered & ~whole
    groups = covered & np.array([is_group(label) for label in facts.label])
    objects = covered & ~groups
    spatial = np.array([bool(_SPATIAL.search(e.phrase)) for e in expressions])
    classes = [
        expression.category or (member_label(label) if known else "")
        for expression, label, known in zip(expressions, facts.label, covered, strict=True)
    ]
    people = np.array([name.lower() in _PEOPLE for name in classes])
    named = np.array([bool(name) for name in classes])
    shares = np.array([_share(expression) for expression in expressions])
    small, large = np.quantile(shares, [1 / 3, 2 / 3])
    slices = {
        "spatial words": spatial,
        "no spatial words": ~spatial,
        "others of its class": objects & facts.distractors,
        "alone of its class": objects & ~facts.distractors,
        "groups": groups,
        "people": named & people,
        "things": named & ~people,
        "small third": shares <= small,
        "middle third": (shares > small) & (shares <= large),
        "large third": shares > large,
    }
    origins = [f"{e.dataset} {e.split}".strip() for e in expressions]
    if len(names := [name for name in dict.fromkeys(origins) if name]) > 1:
        slices = {name: np.array([o == name for o in origins]) for name in names} | slices
    return {name: members for name, members in slices.items() if members.any()}


def _share(expression: Expression) -> float:
    """Return the share of its image that the box covers."""
    x1, y1, x2, y2 = expression.box
    assert expression.image_size is not None  # resolving sets it
    width, height = expression.image_size
    return (x2 - x1) * (y2 - y1) / (width * height)
