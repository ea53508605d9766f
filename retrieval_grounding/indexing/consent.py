"""Which models an index may name by itself, and what its user has consented to.

Weights are trusted like code. An index may come from a stranger, so by itself it can name only
bundled and published weights. Any other name, such as a folder, a file or a hub repository, has to
come from the user as an argument, which is remembered for that index.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from ..core.errors import ModelError
from ..core.user_folder import user_folder
from ..models.clip_weights import is_published_encoder
from ..models.yolo_checkpoint import is_published_detector
from ..storage.files import atomic_write_bytes

__all__ = ["Kind", "check_consent", "needs_consent", "remember_consent"]

Kind = Literal["clip", "detector"]
"""The setting of the catalog that holds the name, and the option of the command line."""

_PATIENCE_SECONDS = 5.0

_log = logging.getLogger(__name__)


def needs_consent(kind: Kind, name: str) -> bool:
    """Return whether a name stands for weights that only the user may name.

    Nothing is loaded to find out. A published name that is also a file in the current folder
    counts as the file.
    """
    published = is_published_encoder if kind == "clip" else is_published_detector
    return not published(name)


def check_consent(directory: Path, kind: Kind, name: str) -> None:
    """Refuse a name that an index has recorded, unless its user may be taken to know it.

    Raises
    ------
    ModelError
        If the name needs consent, and none is on record for this index.
    """
    if needs_consent(kind, name) and _read().get(_key(directory), {}).get(kind) != name:
        raise ModelError(
            f"the index {directory} names weights of its own, {name!r}, and weights are trusted "
            f"like code; if you trust these, pass --{kind} {name!r} once "
            f"({'encoder' if kind == 'clip' else 'detector'}= in Python)"
        )


def remember_consent(directory: Path, kind: Kind, name: str) -> None:
    """Remember that the user has named these weights for an index."""
    if not needs_consent(kind, name) or _read().get(_key(directory), {}).get(kind) == name:
        return
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=_PATIENCE_SECONDS):
            models = _read()
            models.setdefault(_key(directory), {})[kind] = name
            atomic_write_bytes(path, json.dumps(models, indent=2).encode())
    except (OSError, Timeout) as error:
        _log.warning("%s cannot be written (%s): the weights must be named again", path, error)


def _path() -> Path:
    return user_folder() / "trusted-models.json"


def _read() -> dict[str, dict[str, Any]]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(_path().read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return {key: value for key, value in found.items() if isinstance(value, dict)}
    return {}


def _key(directory: Path) -> str:
    return os.path.realpath(directory)
