"""The folder in which an unfinished run keeps what it needs to resume."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import GroundingError, StoreError
from ..core.strict_json import parse_json
from ..storage.files import as_store_error, atomic_path, atomic_write_bytes, open_regular
from ..storage.lock import writer_lock

__all__ = ["RunFolder", "file_digest", "open_run"]

_IDENTITY = "run.json"
_MAX_JSON_BYTES = 1 << 24


class RunFolder:
    """An open run folder; see :func:`open_run`.

    Every file in it is written in one step, so a run that is killed finds either the state before
    or the one after.

    Attributes
    ----------
    path : Path
        The folder, for large files that a part of the run writes and checks by itself.
    identity : str
        Hash of everything that the result depends on.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        self.identity = identity

    def save_json(self, name: str, value: Any) -> None:
        """Write plain values to the file `name`.json."""
        with as_store_error(self.path / name):
            data = json.dumps(value, indent=1).encode()
            atomic_write_bytes(self.path / f"{name}.json", data)

    def load_json(self, name: str) -> Any:
        """Return what :meth:`save_json` wrote, or None if there is no such file."""
        path = self.path / f"{name}.json"
        try:
            with open_regular(path) as file:
                return parse_json(file.read(_MAX_JSON_BYTES))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self._damaged(path, error) from error

    def save_state(self, name: str, state: Mapping[str, Any]) -> None:
        """Write tensors and plain values to the file `name`.pt."""
        import torch

        path = self.path / f"{name}.pt"
        with as_store_error(path), atomic_path(path) as temporary:
            torch.save(dict(state), temporary)

    def load_state(self, name: str) -> dict[str, Any] | None:
        """Return what :meth:`save_state` wrote, on the CPU, or None if there is no such file."""
        import torch

        path = self.path / f"{name}.pt"
        try:
            with open_regular(path) as file:
                state = torch.load(file, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
            raise self._damaged(path, error) from error
        if not isinstance(state, dict):
            raise self._damaged(path, "it holds something else")
        return state

    def delete(self) -> None:
        """Delete the folder once the result is in its place."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _damaged(self, path: Path, reason: object) -> GroundingError:
        first = str(reason).splitlines()[0][:200] if str(reason) else type(reason).__name__
        return GroundingError(f"{path} is damaged ({first}); delete {self.path} to start over")


@contextlib.contextmanager
def open_run(path: Path, facts: Mapping[str, Any]) -> Iterator[RunFolder]:
    """Create the folder of a run, or open it to resume; no second process can do so meanwhile.

    Parameters
    ----------
    path : Path
        The folder.
    facts : mapping
        Everything that the result depends on, as plain values: options, hashes of weights and of
        data, the release.

    Raises
    ------
    GroundingError
        If the folder is of a run with other facts; the message names the first that differs.
    StoreError
        If the folder cannot be written.
    StoreLockedError
        If another process works on it.
    """
    facts = json.loads(json.dumps(facts))
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{path} cannot be created: {error.strerror or error}") from error
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16)
    run = RunFolder(path, digest.hexdigest())
    with writer_lock(path):
        begun = run.load_json(_IDENTITY.removesuffix(".json"))
        if begun is None:
            run.save_json(_IDENTITY.removesuffix(".json"), facts)
        elif begun != facts:
            raise GroundingError(_other_run(path, begun, facts))
        yield run


def file_digest(path: Path) -> str:
    """Return a hash of a file's content, 32 hexadecimal digits, for the facts of a run."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _other_run(path: Path, begun: Any, facts: Mapping[str, Any]) -> str:
    known = begun if isinstance(begun, dict) else {}
    name = next((key for key in facts if known.get(key) != facts[key]), "something")
    return (
        f"{path} is of an unfinished run with another {name} ({known.get(name)!r}, now "
        f"{facts.get(name)!r}); repeat that command to finish it, or delete the folder to begin "
        "anew"
    )
