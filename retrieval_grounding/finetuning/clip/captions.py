"""Reading captions: sentences about whole images."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from ...core.errors import ExpressionError, PhraseError
from ...core.phrases import clean_phrase
from ...core.types import PathLike

__all__ = ["read_captions"]

_MAX_LINE = 1 << 16


def read_captions(source: PathLike) -> dict[str, list[str]]:
    """Read captions by the file name of their image.

    Parameters
    ----------
    source : path
        A ``.tsv`` or ``.txt`` file with lines ``name<TAB>caption``, or a ``.jsonl`` file of objects
        with ``image`` and ``caption``. Folders in a name are left out; empty lines are skipped.

    Raises
    ------
    ExpressionError
        If the file cannot be read, or a line is something else.
    """
    path = Path(source)
    captions: dict[str, list[str]] = defaultdict(list)
    try:
        with path.open(encoding="utf-8") as lines:
            number = 0
            while line := lines.readline(_MAX_LINE):
                number += 1
                if line.strip():
                    name, text = _parse(line, path, number)
                    captions[name.replace("\\", "/").rsplit("/", 1)[-1]].append(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExpressionError(f"the captions {path} cannot be read: {reason}") from error
    if not captions:
        raise ExpressionError(f"{path} has no caption; write lines of a name, a tab and a caption")
    return dict(captions)


def _parse(line: str, path: Path, number: int) -> tuple[str, str]:
    values: list[Any]
    try:
        if path.suffix == ".jsonl":
            record = json.loads(line)
            values = [record["image"], record["caption"]]
        else:
            values = line.split("\t")
        name, text = values
        if not (isinstance(name, str) and name.strip()):
            raise ValueError("the name is missing")
        return name.strip(), clean_phrase(text)
    except (ValueError, LookupError, TypeError, RecursionError, PhraseError) as error:
        raise ExpressionError(
            f"{path}, line {number}, is no caption ({error}); a .jsonl file has objects with image "
            "and caption, any other lines of a name, a tab and a caption"
        ) from error
