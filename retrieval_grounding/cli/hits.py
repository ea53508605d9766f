"""Showing hits: as tables, lines, JSON or paths, on a page, and as files for other tools."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..core.errors import GroundingError
from ..core.text import counted
from .output import note, print_json, print_table, printable, say, say_bytes, shown_path
from .path_table import print_path_table

if TYPE_CHECKING:
    from ..core.hits import Hit
    from ..index import Index

__all__ = [
    "PhraseHits",
    "export_hits",
    "hits_as_dicts",
    "open_in_browser",
    "print_explanations",
    "print_hits",
    "print_paths",
    "show_hits",
]


PhraseHits = tuple[str, "list[Hit]"]
"""A phrase and its hits, best first."""


def hits_as_dicts(results: Sequence[PhraseHits], explain: bool = False) -> list[dict[str, Any]]:
    """Return results as plain values: one entry for each phrase, with or without hits."""
    return [
        {
            "phrase": phrase,
            "matches": any(hit.matches for hit in hits),
            "hits": [_as_dict(hit, explain) for hit in hits],
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
            rows = [(_shown_probability(hit.presence), *_shown(hit)) for hit in hits]
            print_path_table(header, rows, -1, [hit.image for hit in hits])


def print_paths(results: Sequence[PhraseHits], end: bytes) -> None:
    """Print the path of each image once, as bytes of the file system, followed by `end`.

    Raises
    ------
    GroundingError
        If `end` is a line break and a path has one in it.
    """
    paths = [os.fsencode(hit.image) for _, hits in results for hit in hits]
    if end == b"\n" and any(end in path for path in paths):
        raise GroundingError("a path has a line break in it; use --print0 and 'xargs -0'")
    say_bytes(b"".join(path + end for path in dict.fromkeys(paths)))


def print_explanations(results: Sequence[PhraseHits]) -> None:
    """Say on stderr why each hit was found."""
    for hit in (hit for _, hits in results for hit in hits):
        note(f"{shown_path(hit.image)}:")
        for line in str(hit.explain()).splitlines():
            note(f"  {line}")


def show_hits(
    results: Sequence[PhraseHits],
    html: Path | None,
    as_json: bool,
    open_page: bool = False,
    path_end: bytes | None = None,
    index: Index | None = None,
    explain: bool = False,
) -> None:
    """Print results as text, JSON or paths; write the HTML page, and open it, if that is wanted.

    With `explain`, JSON says why each hit was found, and text says it on stderr.
    """
    if open_page and html is None:
        import tempfile

        html = Path(tempfile.mkdtemp(prefix="retrieval-grounding-")) / "hits.html"
    if html is not None:
        from ..core.phrases import clean_phrase
        from ..search.html_page import render_html

        every_hit = [hit for _, hits in results for hit in hits]
        shown = [clean_phrase(phrase) for phrase, _ in results]
        picture = None if index is None else index.picture
        render_html(every_hit, html, phrases=shown, picture=picture)
    if path_end is not None:
        print_paths(results, path_end)
    elif as_json:
        print_json(hits_as_dicts(results, explain))
    else:
        print_hits(results)
        if explain:
            print_explanations(results)
    if html is not None:
        note(f"Wrote the HTML page {html}")
        if open_page:
            open_in_browser(html)


def open_in_browser(page: Path) -> None:
    """Open a page; if there is no browser, say so."""
    import webbrowser

    if not webbrowser.open(page.absolute().as_uri()):
        note(f"No browser could be started; open {page} yourself")


def export_hits(
    results: Sequence[PhraseHits], table: Path | None, crops: Path | None, yolo: Path | None
) -> None:
    """Write hits as a file, as crops and as a YOLO data set, where that is wanted."""
    if table is None and crops is None and yolo is None:
        return
    from ..search.hits import Hits

    hits = Hits(hit for _, own in results for hit in own)
    if table is not None:
        hits.save(table)
        note(f"Wrote {counted(len(hits), 'hit')} to {table}")
    for folder, save in ((crops, hits.save_crops), (yolo, hits.save_yolo)):
        if folder is not None:
            skipped = save(folder)
            for file in skipped:
                note(f"left out: {file.path}: {file.reason} ({file.detail})")
            note(f"Wrote {folder}")


def _as_dict(hit: Hit, explain: bool) -> dict[str, Any]:
    why = {"explanation": hit.explain().as_dict()} if explain else {}
    return hit.as_dict() | {"missing": hit.missing} | why


def _line(hit: Hit) -> tuple[str, ...]:
    mark = ("missing",) if hit.missing else ()
    return (hit.phrase, *_cells(hit), hit.image, *mark)


def _shown(hit: Hit) -> tuple[str, ...]:
    from ..core.groups import label_if_sure

    probability, score, label, box = _cells(hit)
    image = shown_path(hit.image) + (" (missing)" if hit.missing else "")
    return probability, score, label_if_sure(label, hit.label_score), box, image


def _shown_probability(probability: float | None) -> str:
    return "" if probability is None else f"{probability:.2f}"


def _cells(hit: Hit) -> tuple[str, str, str, str]:
    return (
        _shown_probability(hit.probability),
        f"{hit.score:.3f}",
        hit.label,
        " ".join(f"{value:.0f}" for value in hit.box),
    )
