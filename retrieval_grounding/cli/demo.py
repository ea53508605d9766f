"""The command ``demo``: photographs that come with installed packages, and phrases for them."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.errors import SourceError
from ..core.types import PathLike
from ..models.presets import BUNDLED
from .build_report import build_as_dict, print_build
from .hits import hits_as_dicts, print_hits
from .logs import Verbose
from .options import Json
from .output import note, print_json

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


def demo(
    photos: Annotated[
        list[str] | None, typer.Argument(help="More photographs.", metavar="PHOTOS")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the index and the HTML page.")
    ] = Path("demo-output"),
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Index a few photographs, query them, and write an HTML page with the hits.

    The photographs come with installed packages, so nothing is downloaded.
    """
    index, hits = run_demo(output, photos or [])
    assert index.build_report is not None
    results = [(hit.phrase, [hit]) for hit in hits]
    if as_json:
        report = build_as_dict(index.build_report)
        print_json({"build": report, "answers": hits_as_dicts(results)})
        return
    print_build(index.build_report, index.directory, images=len(index))
    print_hits(results)
    note(f"Wrote the HTML page {output / 'demo.html'}")


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


def run_demo(output: Path, more: Sequence[PathLike] = ()) -> tuple[Index, list[Hit]]:
    """Index the photographs and `more`, query :data:`DEMO_PHRASES`, and write ``demo.html``.

    Returns
    -------
    Index, list of Hit
        The index, and the best hit of each phrase.
    """
    from ..builder import build
    from ..models.clip import load_encoder
    from ..search.html_page import render_html

    # An index can only be read with the weights that built it, so each version has its own.
    directory = output / f"index-{load_encoder(BUNDLED).fingerprint.weights}"
    index = build([*demo_photographs(), *more], directory)
    hits = [hits[0] for hits in index.query(DEMO_PHRASES, top=1)]
    render_html(hits, output / "demo.html", title="retrieval_grounding demo")
    return index, hits
