"""Commands that answer phrases: query and ground; and how answers are printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..models.presets import DEFAULT_PRESET
from .options import (
    ClipName,
    Confidence,
    DetectorName,
    Device,
    Html,
    IndexDirectory,
    Iou,
    Json,
    MaxBoxes,
    PresetName,
    detector_settings,
)
from .output import note, print_json, print_table, printable, shown_path

if TYPE_CHECKING:
    from ..core.hits import Hit

__all__ = ["Answer", "answers_as_dicts", "ground", "print_answers", "query"]


Answer = tuple[str, "list[Hit]"]
"""A phrase and its hits, best first."""

PhraseArguments = Annotated[
    list[str],
    typer.Argument(
        help="What to find. Quote a phrase of several words; each argument is a phrase.",
        metavar="PHRASE...",
    ),
]
MinProbability = Annotated[
    float, typer.Option(min=0, max=1, help="Leave out hits that are less probable.")
]
Top = Annotated[int, typer.Option("--top", "-k", min=1, help="Hits for each phrase.")]


def query(
    index: IndexDirectory,
    phrases: PhraseArguments,
    top: Top = 10,
    candidates: Annotated[
        int, typer.Option(min=1, help="Images of which all regions are scored.")
    ] = 100,
    min_probability: MinProbability = 0.0,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare every region with each phrase.")
    ] = False,
    device: Device = "auto",
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Find the regions that phrases refer to, over a whole index.

    Example: retrieval-grounding query indexes/pictures "a man holding a red umbrella"
    """
    from ..index import Index

    _hint_at_quotes(phrases)
    found = Index.open(index, device=device).query(
        phrases, top=top, candidates=candidates, min_probability=min_probability, exact=exact
    )
    _show(list(zip(phrases, found, strict=True)), html, as_json)


def ground(
    image: Annotated[Path, typer.Argument(help="An image file.", metavar="IMAGE")],
    phrases: PhraseArguments,
    preset: PresetName = DEFAULT_PRESET,
    detector: DetectorName = None,
    clip: ClipName = None,
    confidence: Confidence = None,
    iou: Iou = None,
    max_boxes: MaxBoxes = None,
    min_probability: MinProbability = 0.0,
    device: Device = "auto",
    save: Annotated[
        Path | None, typer.Option("--save", help="Write the image with a box for each phrase.")
    ] = None,
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Find the region of one image that a phrase refers to; no index is needed.

    Example: retrieval-grounding ground street.jpg "the dog on the left" --save out.png
    """
    from ..search.ground import ground as ground_image
    from ..search.rank import probable_hits

    _hint_at_quotes(phrases)
    best = ground_image(
        image,
        phrases,
        preset=preset or DEFAULT_PRESET,
        detector=detector,
        clip=clip,
        settings=detector_settings(confidence, iou, max_boxes),
        device=device,
    )
    answers = [
        (phrase, probable_hits([hit], min_probability))
        for phrase, hit in zip(phrases, best, strict=True)
    ]
    hits = [hit for _, kept in answers for hit in kept]
    if save is not None:
        from ..search.render import save_picture

        save_picture(image, hits, save)
    _show(answers, html, as_json)
    if save is not None:
        note(f"The picture{'' if hits else ', without boxes'}: {save}")


def answers_as_dicts(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Return answers as plain values, one for each phrase, with hits or without."""
    return [{"phrase": phrase, "hits": [hit.as_dict() for hit in hits]} for phrase, hits in answers]


def print_answers(answers: Sequence[Answer]) -> None:
    """Print a table for each phrase to a terminal, and one line for each hit into a pipe.

    What is no hit goes to stderr.
    """
    import sys

    if not sys.stdout.isatty():
        print_table(
            (), [(hit.phrase, *_cells(hit), hit.image) for _, hits in answers for hit in hits]
        )
    for phrase, hits in answers:
        if not hits:
            note(f"Nothing matches {phrase!r}.")
        elif sys.stdout.isatty():
            typer.secho(printable(phrase), bold=True)
            header = ("probability", "score", "label", "box x1 y1 x2 y2", "image")
            print_table(header, [(*_cells(hit), shown_path(hit.image)) for hit in hits])


def _cells(hit: Hit) -> tuple[str, str, str, str]:
    return (
        "" if hit.probability is None else f"{hit.probability:.2f}",
        f"{hit.score:.3f}",
        hit.label,
        " ".join(f"{value:.0f}" for value in hit.box),
    )


def _show(answers: Sequence[Answer], html: Path | None, as_json: bool) -> None:
    if html is not None:
        from ..core.phrases import clean_phrase
        from ..search.render import render_html

        hits = [hit for _, kept in answers for hit in kept]
        render_html(hits, html, phrases=[clean_phrase(phrase) for phrase, _ in answers])
    if as_json:
        print_json(answers_as_dicts(answers))
    else:
        print_answers(answers)
    if html is not None:
        note(f"The page with the pictures: {html}")


def _hint_at_quotes(phrases: Sequence[str]) -> None:
    """Tell who forgot the quotes; a list of words may also be meant."""
    if len(phrases) > 2 and not any(" " in phrase.strip() for phrase in phrases):
        note(
            f"hint: these are {len(phrases)} phrases of one word each; "
            f'for one phrase, quote it: "{" ".join(phrases)}"'
        )
