"""The demonstration: real photographs that the installed packages carry, and phrases for them."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.errors import SourceError
from ..core.types import PathLike
from ..models.presets import BUNDLED
from .build import print_report, report_as_dict
from .options import Json
from .output import note, print_json
from .query import answers_as_dicts, print_answers

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
    folder: Annotated[
        list[str] | None, typer.Argument(help="More photographs.", metavar="[PHOTOS...]")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where the index and the page go.")
    ] = Path("demo-output"),
    as_json: Json = False,
) -> None:
    """Index photographs that the installed packages carry, ask phrases, and write a page."""
    index, hits = run_demo(output, folder or [])
    assert index.build_report is not None
    answers = [(hit.phrase, [hit]) for hit in hits]
    if as_json:
        report = report_as_dict(index.build_report)
        print_json({"build": report, "answers": answers_as_dicts(answers)})
        return
    print_report(index.build_report, index.directory, len(index))
    print_answers(answers)
    note(f"The page with the pictures: {output / 'demo.html'}")


def demo_photographs() -> list[str]:
    """Return the paths of the photographs; packages that are not installed are left out."""
    paths = []
    for package, file in _PHOTOGRAPHS:
        # The package is looked up but not imported: only its files are wanted.
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            path = Path(spec.submodule_search_locations[0]) / file
            if path.is_file():
                paths.append(str(path))
    if not paths:
        raise SourceError("no installed package carries a photograph; name a folder of your own")
    return paths


def run_demo(output: Path, more: Sequence[PathLike] = ()) -> tuple[Index, list[Hit]]:
    """Index the photographs and `more`, ask :data:`DEMO_PHRASES`, and write ``demo.html``.

    Returns
    -------
    Index, list of Hit
        What was built, and the best hit of each phrase.
    """
    from ..builder import build
    from ..models.clip import load_encoder
    from ..search.render import render_html

    # New weights cannot read an index of old ones, so each has its own.
    directory = output / f"index-{load_encoder(BUNDLED).fingerprint.weights}"
    index = build([*demo_photographs(), *more], directory)
    hits = [hits[0] for hits in index.query(DEMO_PHRASES, top=1)]
    render_html(hits, output / "demo.html", title="retrieval_grounding demo")
    return index, hits
