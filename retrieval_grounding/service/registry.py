"""Which services of this user run on this machine, so that the command line can ask them.

Each running service has a file in the user's own configuration, which only the user can read: where
it listens, its token and its indexes. It counts only while the very process that wrote it runs.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import GroundingError
from ..core.user_folder import services_folder
from ..core.version import __version__
from .client import RemoteIndex, ask, open_http

__all__ = ["announced", "find_service"]

_MAX_BYTES = 1 << 16
_PATIENCE_SECONDS = 1.0
_ANSWER_SECONDS = 120.0


@contextlib.contextmanager
def announced(url: str, token: str | None, indexes: Mapping[str, Path]) -> Iterator[None]:
    """Let the command line of this user find a service while the block runs.

    If the file cannot be written, it does not.

    Parameters
    ----------
    url : str
        Where the service is, for this machine.
    token : str, optional
        Its token.
    indexes : mapping of str to Path
        The folders of its indexes, by name.
    """
    import psutil  # the command line looks for services at every query, mostly in vain

    process = psutil.Process()
    facts = {
        "version": __version__,
        "url": url,
        "token": token,
        "process": process.pid,
        "started": process.create_time(),
        "indexes": {os.path.realpath(folder): name for name, folder in indexes.items()},
    }
    path = services_folder() / f"{process.pid}.json"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump(facts, file)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def find_service(directory: Path) -> RemoteIndex | None:
    """Return an index as a running service of this user and this version has it, or None."""
    wanted = os.path.realpath(directory)
    folder = services_folder()
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            facts = _read(path)
            name = facts["indexes"].get(wanted)
            if name is None or facts["version"] != __version__ or not _runs(facts):
                continue
            http = open_http(facts["url"], facts["token"], _PATIENCE_SECONDS)
            ask(http, "GET", "/api/v1/health")
            http.timeout = _ANSWER_SECONDS
            return RemoteIndex(http, name)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, GroundingError):
            continue  # not one of ours, or busy: the index is opened here
    return None


def _read(path: Path) -> dict[str, Any]:
    """Return what a service says of itself, if nobody else can have written it."""
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:  # noqa: PTH123
        status = os.fstat(file.fileno())
        if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o077):
            raise OSError(f"{path} is not private")
        found: dict[str, Any] = json.loads(file.read(_MAX_BYTES))
    return found


def _runs(facts: Mapping[str, Any]) -> bool:
    """Return whether the process that wrote this runs; a different one may have its number."""
    import psutil

    try:
        started = psutil.Process(facts["process"]).create_time()
    except psutil.Error:
        return False
    return bool(abs(started - facts["started"]) < 1)
