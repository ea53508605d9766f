"""Where the parts of a benchmark are on disk, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import SourceError
from ..data.entities import is_entities
from .datasets import DataSet

__all__ = ["Located", "locate", "locate_files"]


@dataclass(frozen=True)
class Located:
    """The parts of a benchmark on disk.

    Parameters
    ----------
    name, title : str
        Of the benchmark.
    sources : mapping of str to sequence of Path
        Files or folders of expressions, by the name of the way in which they are split: ``umd``.
    images : Path
        The folder of the photographs.
    reference : float or None
        As in :class:`.datasets.DataSet`.
    """

    name: str
    title: str
    sources: Mapping[str, Sequence[Path]]
    images: Path
    reference: float | None = None


def locate(dataset: DataSet, data: Path, images: Path | None = None) -> Located:
    """Find the parts of a benchmark; nothing is downloaded.

    Parameters
    ----------
    dataset : DataSet
        The benchmark.
    data : Path
        The folder that has its parts, in one of the usual arrangements.
    images : Path, optional
        The folder of the photographs, if it is somewhere else.

    Raises
    ------
    SourceError
        If a part is missing; the message says what belongs where, and who publishes it.
    """
    sources = next((s for folder in dataset.folders if (s := _sources(data / folder))), None)
    places = [images] if images else [data / folder for folder in dataset.images]
    photographs = next((place for place in places if place.is_dir()), None)
    if sources is not None and photographs is not None:
        return Located(dataset.name, dataset.title, sources, photographs, dataset.reference)
    problems = []
    if sources is None:
        folder = next(filter(None, dataset.folders))
        problems.append(f"the expressions ({dataset.needs}) are not in {data / folder}")
    if photographs is None:
        problems.append(f"the photographs are not in {places[0]}")
    known = next(iter(p for p in dataset.parts[:1] if sources is None), dataset.parts[-1])
    raise SourceError(
        f"{' and '.join(problems)}; they are offered at {known.address}, and "
        f"'retrieval-grounding reproduce {dataset.name} --check' lists all parts"
    )


def locate_files(refs: Sequence[Path], images: Path) -> Located:
    """Return files of expressions of one's own, and the folder of their photographs.

    Raises
    ------
    SourceError
        If the folder or a file does not exist.
    """
    for path in (*refs, images):
        if not path.exists():
            raise SourceError(f"{path} does not exist")
    return Located("expressions", "Expressions", {"own": list(refs)}, images)


def _sources(folder: Path) -> dict[str, Sequence[Path]] | None:
    """Return the expressions in a folder, by the way in which they are split, or None."""
    if is_entities(folder):
        return {"entities": [folder]}
    if not (folder / "instances.json").is_file():
        return None
    found = sorted(folder.glob("refs(*).p"), key=_most_usual_first)
    return {path.name[len("refs(") : -len(").p")]: [path] for path in found} or None


def _most_usual_first(path: Path) -> tuple[bool, str]:
    """Sort splits without images in common before others, as papers do."""
    return path.name not in ("refs(umd).p", "refs(unc).p"), path.name
