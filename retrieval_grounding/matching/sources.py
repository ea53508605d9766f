"""What a training learns from: expressions, pseudo-queries and thumbs, each with a weight."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import ExpressionError, GroundingError
from ..core.text import counted
from ..core.types import PathLike
from ..data.expressions import read_expressions
from ..data.resolve import resolve_images
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.feedback_file import FeedbackFile
from ..storage.region_store import RegionStore
from .feedback_statements import feedback_statements
from .placed import placed_statements
from .statements import Statement, pseudo_statements, resolved_statements

__all__ = ["FEEDBACK", "PSEUDO", "Sources", "gather_statements", "parse_source"]


PSEUDO = "pseudo"
"""The source that makes phrases from the index itself."""

FEEDBACK = "feedback"
"""The source of thumbs; see :mod:`.feedback_statements`."""

_MAX_WEIGHT = 100.0

Sources = PathLike | Sequence[PathLike] | Mapping[PathLike, float]
"""One source, several, or several with their weights."""


@dataclass(frozen=True)
class Gathered:
    """The statements of all sources.

    Parameters
    ----------
    statements : list of Statement
        About images of the index.
    description : str
        The sources, in words for people.
    only_pseudo : bool
        Whether no file is among them.
    """

    statements: list[Statement]
    description: str
    only_pseudo: bool


def parse_source(text: str) -> tuple[str, float]:
    """Return a source and its weight, as in ``clicks.jsonl=0.5``; the weight is 1 if left out.

    Raises
    ------
    GroundingError
        If the weight is not a number from 0 to 100.

    Examples
    --------
    >>> parse_source("clicks.jsonl=0.5"), parse_source("pseudo")
    (('clicks.jsonl', 0.5), ('pseudo', 1.0))
    """
    source, equals, weight = text.rpartition("=")
    if not equals or os.path.exists(text):  # noqa: PTH110 - a file may have "=" in its name
        return text, 1.0
    try:
        number = float(weight)
    except ValueError:
        return text, 1.0  # it is the name of a file that does not exist, and will be reported
    return source, _checked_weight(number)


def gather_statements(
    catalog: Catalog,
    store: RegionStore,
    encoder: Encoder,
    sources: Sources,
    seed: int,
    placed: bool = False,
    splits: Sequence[str] | None = None,
    held_out: Sequence[str] = (),
    **reading: Any,
) -> Gathered:
    """Return the statements of all sources about images of an index.

    Parameters
    ----------
    catalog : Catalog
        Of the index.
    store : RegionStore
        Its regions.
    encoder : Encoder
        That of the index, which says what nouns suit a region.
    sources : path, sequence of paths, or mapping of path to float
        Files of expressions, ``"pseudo"`` or ``"feedback"``, with their weights.
    seed : int
        Seed of pseudo-queries.
    placed : bool
        Whether to say as well where the things are that the files describe; for files that
        describe nearly all that is to be seen.
    splits : sequence of str, optional
        Splits of the files to read; all by default.
    held_out : sequence of str
        Further splits to read, whose images are held out.
    **reading
        For :func:`retrieval_grounding.read_expressions`.

    Raises
    ------
    GroundingError
        If there is no source, or a weight is out of range.
    ExpressionError
        If a file cannot be read, or nothing in the splits `held_out` is about an image here.
    """
    weighted = _with_weights(sources)
    statements: list[Statement] = []
    descriptions = []
    for source, weight in weighted.items():
        if source == PSEUDO:
            keys = dict.fromkeys((image.shard, image.row) for image in catalog.images())
            found = pseudo_statements(store, keys, seed, encoder, weight)
            text = f"pseudo-queries of {counted(len(keys), 'image')}"
        elif source == FEEDBACK:
            thumbs = FeedbackFile(catalog.directory).read().entries.values()
            found = feedback_statements(catalog, store, thumbs, weight)
            text = f"{counted(len(thumbs), 'thumb')}, of which {len(found)} say something to learn"
        else:
            wanted = [*splits, *held_out] if splits else None
            expressions = read_expressions(source, splits=wanted, **reading)
            resolved = resolve_images(expressions, catalog.images())
            found = resolved_statements(resolved, weight, held_out)
            text = f"{expressions}, of which {len(found)} are about images of the index"
            if placed:
                found += placed_statements(store, found, seed)
                text += ", with their places"
        statements += found
        descriptions.append(text if weight == 1 else f"{text} (weight {weight:g})")
    if held_out and not any(statement.held_out for statement in statements):
        raise ExpressionError(
            f"no expression of the split {' or '.join(held_out)} is about an image of the index; "
            "name another split to hold out"
        )
    return Gathered(statements, "; ".join(descriptions), set(weighted) == {PSEUDO})


def _with_weights(sources: Sources) -> dict[PathLike, float]:
    if isinstance(sources, Mapping):
        weighted = {source: _checked_weight(weight) for source, weight in sources.items()}
    elif isinstance(sources, (str, os.PathLike)):
        weighted = {sources: 1.0}
    else:
        weighted = dict.fromkeys(sources, 1.0)
    if not weighted:
        raise GroundingError("name at least one file of expressions, 'pseudo' or 'feedback'")
    return weighted


def _checked_weight(weight: float) -> float:
    if not (math.isfinite(weight) and 0 < weight <= _MAX_WEIGHT):
        raise GroundingError(f"a weight is above 0 and at most {_MAX_WEIGHT:g}, not {weight:g}")
    return float(weight)
