"""The demonstration: real photographs that the installed packages carry, and phrases for them."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from .encoders import load_encoder
from .errors import SourceError
from .hits import Hit
from .images import PathLike
from .index import Index
from .making import build
from .presets import BUNDLED
from .rendering import render_html

__all__ = ["DEMO_PHRASES", "demo_photographs", "run_demo"]

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
    # New weights cannot read an index of old ones, so each has its own.
    directory = output / f"index-{load_encoder(BUNDLED).fingerprint.weights}"
    index = build([*demo_photographs(), *more], directory)
    hits = [hits[0] for hits in index.query(DEMO_PHRASES, top=1)]
    render_html(hits, output / "demo.html", title="retrieval_grounding demo")
    return index, hits
