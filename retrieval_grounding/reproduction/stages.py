"""Stages of a long run: each leaves a record of what it was made from, and is done once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import GroundingError, StoreError
from ..core.strict_json import json_text
from ..storage.files import as_store_error, atomic_write_bytes
from ..storage.lock import writer_lock

__all__ = ["Stage", "Stages", "open_stages"]


@dataclass(frozen=True)
class Stage:
    """A stage that is done.

    Parameters
    ----------
    name : str
        What it is called.
    stamp : str
        Hash of what it was made from, for the stages that depend on it.
    seconds : float
        How long it took; if it was interrupted, since it was last started.
    interrupted : bool
        Whether it was.
    result : Any
        What it returned.
    """

    name: str
    stamp: str
    seconds: float
    interrupted: bool
    result: Any


class Stages:
    """The stages of one run, in a folder; see :func:`open_stages`.

    Parameters
    ----------
    folder : Path
        Of the run.
    say : callable
        Takes a line about what happens.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.done: list[Stage] = []
        self._say = say

    def run(
        self,
        name: str,
        inputs: Mapping[str, Any],
        work: Callable[[], Any],
        outputs: Sequence[Path] = (),
    ) -> Stage:
        """Return the result of a stage, and do its work only if that has not been done.

        A stage that was killed is started again, so its work must continue or repeat what it finds.

        Parameters
        ----------
        name : str
            Of the stage.
        inputs : mapping
            Everything that the result depends on, as plain values; the stamps of other stages
            stand for their results.
        work : callable
            Returns plain values.
        outputs : sequence of Path
            What it leaves on disk. If one is gone, the work is done again.
        """
        stamp = hashlib.blake2b(
            json.dumps(inputs, sort_keys=True).encode(), digest_size=16
        ).hexdigest()
        path = self.folder / "stages" / f"{name}.json"
        known = _read(path)
        begun = known.get("stamp") == stamp
        if begun and "result" in known and all(output.exists() for output in outputs):
            self._say(f"{name}: done before")
        else:
            self._say(f"{name}: " + ("continues" if begun else "begins"))
            _write(path, {"stamp": stamp, "inputs": dict(inputs)})
            start = time.monotonic()
            result = work()
            seconds = time.monotonic() - start
            record = {"stamp": stamp, "inputs": dict(inputs), "seconds": round(seconds, 2)}
            _write(path, record | {"interrupted": begun, "result": result})
            self._say(f"{name}: done in {_duration(seconds)}")
            known = _read(path)
        self.done.append(
            Stage(name, stamp, known["seconds"], known["interrupted"], known["result"])
        )
        return self.done[-1]


@contextlib.contextmanager
def open_stages(folder: Path, say: Callable[[str], None]) -> Iterator[Stages]:
    """Create or open the folder of a run; no second process can do so meanwhile.

    Raises
    ------
    GroundingError
        If the folder has other files.
    StoreError
        If it cannot be written.
    StoreLockedError
        If another process works on it.
    """
    try:
        if folder.is_dir() and any(folder.iterdir()) and not (folder / "stages").is_dir():
            raise GroundingError(
                f"{folder} has other files; name a new folder, or one of a reproduction, as --out"
            )
        (folder / "stages").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be created: {error.strerror or error}") from error
    with writer_lock(folder):
        yield Stages(folder, say)


def _read(path: Path) -> dict[str, Any]:
    """Return the record of a stage; a record that cannot be read is none, and is made again."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, record: Mapping[str, Any]) -> None:
    with as_store_error(path):
        atomic_write_bytes(path, json_text(dict(record), indent=1).encode())


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
