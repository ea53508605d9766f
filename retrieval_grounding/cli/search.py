"""The commands ``query`` and ``ground``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..models.presets import DEFAULT_PRESET
from .hits import show_hits
from .logs import Verbose
from .options import (
    ClipName,
    Confidence,
    DetectorName,
    Device,
    Html,
    IndexClip,
    IndexDirectory,
    Iou,
    Json,
    MaxBoxes,
    MinProbability,
    NoGroups,
    PhraseArguments,
    PresetName,
    check_image_first,
    check_index_first,
    detector_settings,
)
from .output import note

__all__ = ["ground", "query"]


def query(
    index: IndexDirectory,
    phrases: PhraseArguments,
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="Hits per phrase.")] = 10,
    candidates: Annotated[
        int, typer.Option(min=1, help="Candidate images per phrase, whose regions are scored.")
    ] = 100,
    min_probability: MinProbability = 0.0,
    matcher: Annotated[
        str | None,
        typer.Option(help="Matcher to score with, by its name; see 'matcher list'."),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare every region with each phrase.")
    ] = False,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out images whose files are gone.")
    ] = False,
    clip: IndexClip = None,
    device: Device = "auto",
    html: Html = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Find the regions that phrases refer to, in all images of an index.

    Example: retrieval-grounding query indexes/pictures "a man holding a red umbrella"
    """
    from ..index import Index

    check_index_first(index, phrases)
    _hint_at_quotes(phrases)
    found = Index.open(index, encoder=clip, device=device).query(
        phrases,
        top=top,
        candidates=candidates,
        min_probability=min_probability,
        matcher=matcher,
        exact=exact,
        skip_missing=skip_missing,
    )
    show_hits(list(zip(phrases, found, strict=True)), html, as_json)


def ground(
    image: Annotated[Path, typer.Argument(help="An image file.", metavar="IMAGE")],
    phrases: PhraseArguments,
    preset: PresetName = DEFAULT_PRESET,
    detector: DetectorName = None,
    clip: ClipName = None,
    confidence: Confidence = None,
    iou: Iou = None,
    max_boxes: MaxBoxes = None,
    no_groups: NoGroups = False,
    min_probability: MinProbability = 0.0,
    device: Device = "auto",
    save: Annotated[
        Path | None,
        typer.Option("--save", help="Write the image with the boxes drawn on it to this file."),
    ] = None,
    html: Html = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Find the region that a phrase refers to in one image, without an index.

    Example: retrieval-grounding ground street.jpg "the dog on the left" --save out.png
    """
    from ..search.ground import ground as ground_image
    from ..search.rank import filter_by_probability

    check_image_first(image, phrases)
    _hint_at_quotes(phrases)
    best = ground_image(
        image,
        phrases,
        preset=preset or DEFAULT_PRESET,
        detector=detector,
        clip=clip,
        settings=detector_settings(confidence, iou, max_boxes, no_groups),
        device=device,
    )
    results = [
        (phrase, filter_by_probability([hit], min_probability))
        for phrase, hit in zip(phrases, best, strict=True)
    ]
    hits = [hit for _, kept in results for hit in kept]
    remarks: list[str] = []
    if save is not None:
        from ..search.draw import save_picture

        remarks = save_picture(image, hits, save)
    show_hits(results, html, as_json)
    if save is not None:
        note(f"Wrote the picture {save}{'' if hits else ', without boxes'}")
    for remark in remarks:
        note(remark)


def _hint_at_quotes(phrases: Sequence[str]) -> None:
    """Hint at missing quotes; a list of words may also be intended."""
    if len(phrases) > 2 and not any(" " in phrase.strip() for phrase in phrases):
        note(
            f"hint: these are {len(phrases)} phrases of one word each; "
            f'for one phrase, quote it: "{" ".join(phrases)}"'
        )
