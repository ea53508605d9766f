"""The commands ``query`` and ``ground``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import GroundingError, QueryError
from ..core.lazy import Lazy
from ..core.user_folder import services_folder
from ..models.presets import DEFAULT_PRESET
from .hits import PhraseHits, export_hits, show_hits
from .logs import Verbose
from .options import (
    Classes,
    ClipName,
    Confidence,
    Crops,
    DetectorName,
    Device,
    Export,
    Html,
    IndexClip,
    IndexDirectory,
    Iou,
    Json,
    MaxBoxes,
    MinProbability,
    NoGroups,
    OpenPage,
    Paths,
    PhraseArguments,
    PresetName,
    Print0,
    Yolo,
    check_image_first,
    check_index_first,
    detector_settings,
)
from .output import note
from .query_options import (
    Also,
    Diverse,
    Folder,
    Label,
    Like,
    MaxSize,
    MinSize,
    NotIn,
    QueryTexts,
    Since,
    Unique,
    Until,
    Unwanted,
    Where,
    make_queries,
)

if TYPE_CHECKING:
    from ..core.hits import Hit
    from ..core.query.value import Query
    from ..index import Index
    from ..search.hits import Hits
    from ..service.client import RemoteIndex

__all__ = ["ground", "query"]


def query(
    index: IndexDirectory,
    phrases: QueryTexts = None,
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="Hits per phrase.")] = 10,
    candidates: Annotated[
        int, typer.Option(min=1, help="Candidate images per phrase, whose regions are scored.")
    ] = 100,
    min_probability: MinProbability = None,
    matcher: Annotated[
        str | None,
        typer.Option(help="Matcher to score with, by its name; see 'matcher list'."),
    ] = None,
    unwanted: Unwanted = None,
    not_in: NotIn = None,
    also: Also = None,
    like: Like = None,
    label: Label = None,
    folder: Folder = None,
    min_size: MinSize = None,
    max_size: MaxSize = None,
    since: Since = None,
    until: Until = None,
    where: Where = None,
    unique: Unique = None,
    diverse: Diverse = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say why each hit was found.")] = False,
    feedback: Annotated[
        bool, typer.Option("--feedback/--no-feedback", help="Use thumbs that people gave, or not.")
    ] = True,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact", help="Compare every region with each phrase; score all of each image."
        ),
    ] = False,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out images whose files are gone.")
    ] = False,
    clip: IndexClip = None,
    device: Device = "auto",
    html: Html = None,
    open_page: OpenPage = False,
    export: Export = None,
    crops: Crops = None,
    yolo: Yolo = None,
    paths: Paths = False,
    print0: Print0 = False,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Find the regions that phrases refer to, in all images of an index.

    Without a phrase it opens a prompt, which keeps the models loaded; options apply to each phrase.

    Example: retrieval-grounding query indexes/pictures "a dog -person since:2024-05" --unique near
    """
    texts = list(phrases or [])
    check_index_first(index, texts)
    if as_json and (paths or print0):
        raise typer.BadParameter("--json and --paths print different things; use one of them")
    _hint_at_quotes(texts)
    clauses = {
        "unwanted": unwanted,
        "scope": not_in,
        "also": also,
        "like": like,
        "labels": label,
        "folders": folder,
        "min_size": min_size,
        "max_size": max_size,
        "since": since,
        "until": until,
        "where": where,
        "unique": unique,
        "diverse": diverse,
    }
    says_what = bool(texts or also or like)
    try:
        make_queries(texts if says_what else ["any phrase"], clauses)
    except QueryError as error:
        raise typer.BadParameter(str(error)) from error
    opened = Lazy(lambda: _open(index, clip, device))
    needs_index = html or open_page or export or crops or yolo or explain or clip
    may_be_asked = says_what and not needs_index and device == "auto"
    served = _served(index) if may_be_asked else None

    def ask(asked: list[str]) -> list[PhraseHits]:
        queries = make_queries(asked, clauses)
        options: dict[str, Any] = {
            "top": top,
            "candidates": candidates,
            "min_probability": min_probability,
            "matcher": matcher,
            "exact": exact,
            "skip_missing": skip_missing,
            "feedback": feedback,
        }
        found = None
        if served is not None:
            found = _ask_service(served, queries, options)
        if found is None:
            found = opened.get().query(queries, **options)
        _hint_at_minimum(min_probability, found)
        return [(query.title, hits) for query, hits in zip(queries, found, strict=True)]

    path_end = b"\0" if print0 else b"\n" if paths else None
    if says_what:
        results = ask(texts)
        export_hits(results, export, crops, yolo)
        shown = opened.get() if html or open_page else None
        show_hits(results, html, as_json, open_page, path_end, shown, explain)
        return
    if html or export or crops or yolo or open_page:
        raise typer.BadParameter(
            "--html, --open, --export, --crops and --yolo are for phrases that are named on the "
            "command line"
        )
    from .prompt import answer_lines

    # What cannot be loaded is reported before anybody types.
    _ = opened.get().encoder, opened.get().matcher
    answer_lines(ask, as_json, path_end, explain)


def ground(
    image: Annotated[str, typer.Argument(help="An image file, or its URL.", metavar="IMAGE")],
    phrases: PhraseArguments,
    preset: PresetName = DEFAULT_PRESET,
    detector: DetectorName = None,
    clip: ClipName = None,
    confidence: Confidence = None,
    iou: Iou = None,
    max_boxes: MaxBoxes = None,
    classes: Classes = None,
    no_groups: NoGroups = False,
    min_probability: MinProbability = None,
    device: Device = "auto",
    save: Annotated[
        Path | None,
        typer.Option("--save", help="Write the image with the boxes drawn on it to this file."),
    ] = None,
    html: Html = None,
    open_page: OpenPage = False,
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
        settings=detector_settings(confidence, iou, max_boxes, no_groups, classes),
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
    show_hits(results, html, as_json, open_page)
    _hint_at_minimum(min_probability, [kept for _, kept in results])
    if save is not None:
        note(f"Wrote the picture {save}{'' if hits else ', without boxes'}")
    for remark in remarks:
        note(remark)


def _open(index: Path, clip: str | None, device: str) -> Index:
    from ..index import Index

    return Index.open(index, encoder=clip, device=device)


def _served(index: Path) -> RemoteIndex | None:
    """Return the index as a service of this user has it, which answers without loading anything."""
    if not any(services_folder().glob("*.json")):
        return None
    from ..service.registry import find_service

    return find_service(index)


def _ask_service(
    served: RemoteIndex, queries: list[Query], options: dict[str, Any]
) -> list[Hits] | None:
    """Return what a service answers, or None if it is busy, gone, or this is beyond its limits."""
    try:
        return served.query(queries, **options)
    except GroundingError as error:
        if type(error) is not GroundingError:  # the index would say the same
            raise
        logging.getLogger(__name__).info("%s; the index is opened instead", error)
        return None


def _hint_at_minimum(minimum: float | None, found: Sequence[Sequence[Hit]]) -> None:
    """Say how to see what the default minimum has dropped."""
    if minimum is None and not all(found):
        note("hint: --min-probability 0 shows what comes nearest, even if it does not match")


def _hint_at_quotes(phrases: Sequence[str]) -> None:
    """Hint at missing quotes; a list of words may also be intended."""
    if len(phrases) > 2 and not any(" " in phrase.strip() for phrase in phrases):
        note(
            f"hint: these are {len(phrases)} phrases of one word each; "
            f'for one phrase, quote it: "{" ".join(phrases)}"'
        )
