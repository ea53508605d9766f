"""Expressions and photographs on disk → files of expressions, and the list of images to index."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import SourceError
from ..core.reports import BuildOptions
from ..core.strict_json import json_text
from ..core.text import counted
from ..data.expressions import Expression, read_expressions
from ..data.names import PathNames
from ..data.sources import search
from ..storage.files import as_store_error, atomic_write_bytes, file_checksum
from .locate import Located

__all__ = ["expression_file", "image_list", "prepare", "source_facts"]

_LEAST = 10  # images of a split, however low the limit


def expression_file(folder: Path, name: str) -> Path:
    """Return where :func:`prepare` writes the expressions that are split in one way."""
    return folder / "expressions" / f"{name}.jsonl"


def image_list(folder: Path) -> Path:
    """Return where :func:`prepare` writes the paths of the images."""
    return folder / "images.txt"


def source_facts(located: Located) -> dict[str, Any]:
    """Return what identifies the data: hashes of files of expressions, and the folder of images.

    Of a folder with a file for each image, the names and sizes stand for the content.
    """
    return {
        "images": str(located.images.resolve()),
        "sources": {
            name: [_identity(path) for path in paths] for name, paths in located.sources.items()
        },
    }


def prepare(located: Located, folder: Path, limit: int | None) -> dict[str, Any]:
    """Write the expressions about images that exist, and the list of these images.

    Parameters
    ----------
    located : Located
        The data.
    folder : Path
        Of the run.
    limit : int or None
        About how many images to use, from each split in proportion; all if None.

    Returns
    -------
    dict
        ``images``: the number of images; ``missing``: how many were described and not found;
        ``described``: how many there are without the limit; ``sets``: for each way of splitting,
        ``splits``, the numbers of expressions and images by split, and ``skipped``.

    Raises
    ------
    SourceError
        If no image that is described exists.
    """
    names = PathNames(search(located.images, BuildOptions()).paths)
    found: dict[str, str] = {}  # path by name
    missing: set[str] = set()
    sets: dict[str, list[Expression]] = {}
    skipped: dict[str, Counter[str]] = {}
    for name, paths in located.sources.items():
        sets[name], skipped[name] = [], Counter()
        for path in paths:
            expressions = read_expressions(path)
            skipped[name] += expressions.skipped
            for expression in expressions:
                image = expression.image
                if image not in found and image not in missing:
                    matches = names.find(image)
                    if len(matches) == 1:
                        found[image] = matches[0]
                    else:
                        missing.add(image)
                if image in found:
                    sets[name].append(expression)
    if not found:
        raise SourceError(
            f"none of the {counted(len(missing), 'image')} that are described, such as "
            f"{min(missing)}, is in {located.images}; name their folder with --images"
        )
    chosen = _choose(sets, found, limit)
    facts: dict[str, Any] = {
        "images": len(chosen),
        "described": len(set(found.values())),
        "missing": len(missing),
        "sets": {},
    }
    for name, expressions_of in sets.items():
        kept = [e for e in expressions_of if found[e.image] in chosen]
        _write_expressions(expression_file(folder, name), kept, found)
        facts["sets"][name] = {
            "splits": _count_splits(kept, found),
            "skipped": dict(skipped[name]),
        }
    _write(image_list(folder), "\0".join(sorted(chosen)))
    return facts


def _choose(
    sets: Mapping[str, Sequence[Expression]], found: Mapping[str, str], limit: int | None
) -> set[str]:
    """Return the paths to use: of every split the same share, by a hash, so at random."""
    images: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name, expressions in sets.items():
        for expression in expressions:
            images[name, expression.split].add(found[expression.image])
    everything = set().union(*images.values())
    if limit is None or limit >= len(everything):
        return everything
    chosen: set[str] = set()
    for paths in images.values():
        count = max(_LEAST, math.ceil(limit * len(paths) / len(everything)))
        chosen.update(sorted(paths, key=_rank)[:count])
    return chosen


def _rank(path: str) -> bytes:
    """Return what to sort by; it depends on the file's name, not on where the folder is."""
    return hashlib.blake2b(Path(path).name.encode("utf-8", "surrogateescape")).digest()


def _count_splits(
    expressions: Iterable[Expression], found: Mapping[str, str]
) -> dict[str, dict[str, int]]:
    counts: Counter[str] = Counter()
    images: dict[str, set[str]] = defaultdict(set)
    for expression in expressions:
        counts[expression.split] += 1
        images[expression.split].add(found[expression.image])
    return {
        split: {"expressions": count, "images": len(images[split])}
        for split, count in counts.items()
    }


def _write_expressions(
    path: Path, expressions: Iterable[Expression], found: Mapping[str, str]
) -> None:
    lines = []
    for expression in expressions:
        width, height = expression.image_size or (None, None)
        record = {
            "image": found[expression.image],
            "expression": expression.phrase,
            "bbox_xyxy": list(expression.box),
            "split": expression.split,
            "dataset": expression.dataset,
            "category": expression.category,
            "object_id": expression.object_id,
            "width": width,
            "height": height,
        }
        lines.append(json_text(record) + "\n")
    _write(path, "".join(lines))


def _write(path: Path, text: str) -> None:
    with as_store_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(path, text.encode("utf-8", "surrogateescape"))


def _identity(path: Path) -> list[str]:
    if path.is_file():
        files = [path, path.with_name("instances.json")] if path.suffix == ".p" else [path]
        return [file_checksum(file.resolve()) for file in files if file.exists()]
    entries = sorted(file for file in path.rglob("*") if file.is_file())
    digest = hashlib.blake2b(digest_size=16)
    for file in entries:
        digest.update(f"{file.relative_to(path).as_posix()} {file.stat().st_size}\0".encode())
    return [digest.hexdigest()]
