"""Printing hits: as tables, as tab-separated lines, as JSON, and as an HTML page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .output import note, print_json, print_table, printable, say, shown_path

if TYPE_CHECKING:
    from ..core.hits import Hit

__all__ = ["PhraseHits", "hits_as_dicts", "print_hits", "show_hits"]


PhraseHits = tuple[str, "list[Hit]"]
"""A phrase and its hits, best first."""


def hits_as_dicts(results: Sequence[PhraseHits]) -> list[dict[str, Any]]:
    """Return results as plain values: one entry for each phrase, with or without hits."""
    return [
        {
            "phrase": phrase,
            "matches": any(hit.matches for hit in hits),
            "hits": [_as_dict(hit) for hit in hits],
        }
        for phrase, hits in results
    ]


def print_hits(results: Sequence[PhraseHits]) -> None:
    """Print a table for each phrase on a terminal, and one line for each hit into a pipe.

    Phrases without hits are reported on stderr.
    """
    terminal = sys.stdout.isatty()
    if not terminal:
        print_table((), [_line(hit) for _, hits in results for hit in hits])
    for phrase, hits in results:
        if not hits:
            note(f"Nothing here matches {phrase!r}.")
        elif terminal:
            say(typer.style(printable(phrase), bold=True))
            header = (
                "in image", "this box", "score", "label", "box x1 y1 x2 y2", "image",
            )  # fmt: skip
            rows = [
                (_shown_probability(hit.presence), *_cells(hit), _shown_image(hit)) for hit in hits
            ]
            print_table(header, rows)


def show_hits(results: Sequence[PhraseHits], html: Path | None, as_json: bool) -> None:
    """Print results as text or JSON, and write the HTML page if one is wanted."""
    if html is not None:
        from ..core.phrases import clean_phrase
        from ..search.html_page import render_html

        every_hit = [hit for _, hits in results for hit in hits]
        render_html(every_hit, html, phrases=[clean_phrase(phrase) for phrase, _ in results])
    if as_json:
        print_json(hits_as_dicts(results))
    else:
        print_hits(results)
    if html is not None:
        note(f"Wrote the HTML page {html}")


def _as_dict(hit: Hit) -> dict[str, Any]:
    return hit.as_dict() | {"missing": hit.missing}


def _line(hit: Hit) -> tuple[str, ...]:
    mark = ("missing",) if hit.missing else ()
    return (hit.phrase, *_cells(hit), hit.image, *mark)


def _shown_image(hit: Hit) -> str:
    return shown_path(hit.image) + (" (missing)" if hit.missing else "")


def _shown_probability(probability: float | None) -> str:
    return "" if probability is None else f"{probability:.2f}"


def _cells(hit: Hit) -> tuple[str, str, str, str]:
    return (
        _shown_probability(hit.probability),
        f"{hit.score:.3f}",
        hit.label,
        " ".join(f"{value:.0f}" for value in hit.box),
    )
