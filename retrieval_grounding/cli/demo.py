"""The command ``demo``: photographs, phrases for them, and a page with the hits."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.errors import SourceError
from ..core.types import PathLike
from ..models.presets import BUNDLED
from .build_report import build_as_dict, print_build
from .hits import PhraseHits, hits_as_dicts, open_in_browser, print_hits
from .logs import Verbose
from .options import Json, OpenPage
from .output import note, print_json
from .serve import serve_opened

if TYPE_CHECKING:
    from ..core.hits import Hit
    from ..index import Index

__all__ = ["DEMO_PHRASES", "demo", "demo_photographs", "run_demo"]

_PHOTOGRAPHS = (
    ("ultralytics", "assets/bus.jpg"),
    ("ultralytics", "assets/zidane.jpg"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
)

DEMO_PHRASES = (
    "a bus",
    "a bald man",
    "a chinese temple",
    "two men in suits",
    "a city street",
    "an orange flower in a garden",
    "an old man with grey hair",
    "a tie",
)


_TOP = 6  # hits per phrase at most
_PROBABLE = 0.3  # the best hit is always shown, others from this probability on
_SUGGESTED = 8  # phrases for photographs of one's own


def demo(
    photos: Annotated[
        list[str] | None,
        typer.Argument(
            help="Photographs of your own, instead of the installed ones.", metavar="PHOTOS"
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the index and the HTML page.")
    ] = Path("demo-output"),
    open_page: OpenPage = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Then serve the index to a browser.")
    ] = False,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Index a few photographs, query them, and write an HTML page with the hits.

    Without PHOTOS, photographs that come with installed packages are taken, so nothing is
    downloaded. Those of your own are asked for what they show most often.
    """
    index, results = run_demo(output, photos or [])
    assert index.build_report is not None
    page = output / "demo.html"
    if as_json:
        report = build_as_dict(index.build_report)
        print_json({"build": report, "answers": hits_as_dicts(results)})
    else:
        print_build(index.build_report, index.directory, images=len(index))
        print_hits(results)
        note(f"Wrote the HTML page {page}")
    if serve:
        from ..service.settings import ServiceSettings

        serve_opened([index], ServiceSettings(), open_page)
        return
    if open_page:
        open_in_browser(page)
    note(f"To look for more: retrieval-grounding serve {shlex.quote(str(index.directory))} --open")


def demo_photographs() -> list[str]:
    """Return the paths of the photographs; those of packages not installed are left out."""
    paths = []
    for package, file in _PHOTOGRAPHS:
        # Only the package's files are needed, so it is located but not imported.
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            path = Path(spec.submodule_search_locations[0]) / file
            if path.is_file():
                paths.append(str(path))
    if not paths:
        raise SourceError("no installed package has a photograph; name a folder of your own")
    return paths


def run_demo(output: Path, own: Sequence[PathLike] = ()) -> tuple[Index, list[PhraseHits]]:
    """Index photographs, query them, and write ``demo.html``.

    Parameters
    ----------
    output : Path
        Folder for index and page.
    own : sequence of paths
        Photographs to ask for what they show most often. If there are none, those of
        :func:`demo_photographs` are asked :data:`DEMO_PHRASES`.

    Returns
    -------
    Index, list of (phrase, hits)
        The index, and the probable hits of each phrase, but at least the best.
    """
    from ..builder import build
    from ..models.clip import load_encoder
    from ..search.hits import Hits
    from ..search.html_page import render_html
    from ..search.suggestions import suggest_phrases

    # An index can only be read with the weights that built it, so each version has its own.
    name = f"index-{load_encoder(BUNDLED).fingerprint.weights}"
    title = "retrieval_grounding demo"
    if own:
        places = [os.path.abspath(place) for place in own]  # noqa: PTH100 - keeps links
        name += "-" + hashlib.blake2b("\0".join(places).encode(), digest_size=4).hexdigest()
        title = ", ".join(Path(place).name for place in places)
    index = build([*own] or demo_photographs(), output / name)
    phrases = (suggest_phrases(index.directory, _SUGGESTED) if own else []) or [*DEMO_PHRASES]
    answers = index.query(phrases, top=_TOP)
    results: list[PhraseHits] = [
        (phrase, [hit for rank, hit in enumerate(hits) if not rank or _is_probable(hit)])
        for phrase, hits in zip(phrases, answers, strict=True)
    ]
    shown = Hits(hit for _, hits in results for hit in hits)
    render_html(shown, output / "demo.html", title=title)
    return index, results


def _is_probable(hit: Hit) -> bool:
    return hit.probability is not None and hit.probability >= _PROBABLE
