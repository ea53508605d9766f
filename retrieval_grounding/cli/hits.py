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


def hits_as_dicts(results: Sequence[PhraseHits], explain: bool = False) -> list[dict[str, Any]]:
    """Return results as plain values: one entry for each phrase, with or without hits."""
    return [
        {"phrase": phrase, "hits": [_as_dict(hit, explain) for hit in hits]}
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
            note(f"Nothing matches {phrase!r}.")
        elif terminal:
            say(typer.style(printable(phrase), bold=True))
            header = ("probability", "score", "label", "box x1 y1 x2 y2", "image")
            print_table(header, [(*_cells(hit), _shown_image(hit)) for hit in hits])


def show_hits(
    results: Sequence[PhraseHits], html: Path | None, as_json: bool, explain: bool = False
) -> None:
    """Print results as text or JSON, and write the HTML page if one is wanted.

    With `explain`, JSON says why each hit was found, and text says it on stderr.
    """
    if html is not None:
        from ..core.phrases import clean_phrase
        from ..search.html_page import render_html

        every_hit = [hit for _, hits in results for hit in hits]
        render_html(every_hit, html, phrases=[clean_phrase(phrase) for phrase, _ in results])
    if as_json:
        print_json(hits_as_dicts(results, explain))
    else:
        print_hits(results)
        for hit in (hit for _, hits in results for hit in hits if explain):
            note(f"{shown_path(hit.image)}:")
            for line in str(hit.explain()).splitlines():
                note(f"  {line}")
    if html is not None:
        note(f"Wrote the HTML page {html}")


def _as_dict(hit: Hit, explain: bool) -> dict[str, Any]:
    why = {"explanation": hit.explain().as_dict()} if explain else {}
    return hit.as_dict() | {"missing": hit.missing} | why


def _line(hit: Hit) -> tuple[str, ...]:
    mark = ("missing",) if hit.missing else ()
    return (hit.phrase, *_cells(hit), hit.image, *mark)


def _shown_image(hit: Hit) -> str:
    return shown_path(hit.image) + (" (missing)" if hit.missing else "")


def _cells(hit: Hit) -> tuple[str, str, str, str]:
    return (
        "" if hit.probability is None else f"{hit.probability:.2f}",
        f"{hit.score:.3f}",
        hit.label,
        " ".join(f"{value:.0f}" for value in hit.box),
    )
