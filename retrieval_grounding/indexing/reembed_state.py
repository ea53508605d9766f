"""What an unfinished ``reembed`` keeps in an index: new shards, and their list."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import StoreError
from ..core.strict_json import parse_json
from ..storage.files import (
    as_store_error,
    atomic_write_bytes,
    file_checksum,
    is_plain,
    open_regular,
    sync_folder,
)
from ..storage.rows import NewShard, StoredRow

__all__ = ["REEMBED_FOLDER", "FinishedShard", "ReembedState", "discard_state", "read_state"]

REEMBED_FOLDER = "reembedding"

_STATE = "state.json"
_FILE = re.compile(r"\d{6,}\.h5")
_MAX_BYTES = 1 << 28

RowName = tuple[str, str]
"""Content hash and checksum of a row: the same image with the same boxes."""


@dataclass(frozen=True)
class FinishedShard:
    """A new shard in the folder.

    Parameters
    ----------
    file, checksum : str
        Its name and its BLAKE2b-128.
    rows : list of StoredRow
        In the order of the file.
    former : list of str
        Checksum of the row that each one replaces.
    """

    file: str
    checksum: str
    rows: list[StoredRow]
    former: list[str]

    @property
    def names(self) -> list[RowName]:
        """The rows that it replaces."""
        return [(row.content_hash, old) for row, old in zip(self.rows, self.former, strict=True)]


@dataclass
class ReembedState:
    """The list of an unfinished ``reembed``.

    Parameters
    ----------
    folder : Path
        :data:`REEMBED_FOLDER` of the index.
    encoder, former : str
        Fingerprints of the encoder to be and the one that was.
    shards : list of FinishedShard
        What is done.
    """

    folder: Path
    encoder: str
    former: str
    shards: list[FinishedShard] = field(default_factory=list)

    def save(self) -> None:
        """Write the list in one step."""
        value = {
            "encoder": self.encoder,
            "former": self.former,
            "shards": [asdict(shard) for shard in self.shards],
        }
        with as_store_error(self.folder):
            atomic_write_bytes(self.folder / _STATE, json.dumps(value).encode())

    def intact(self) -> Iterator[FinishedShard]:
        """Yield the shards whose files are what was written."""
        for shard in self.shards:
            path = self.folder / shard.file
            if is_plain(path) and file_checksum(path) == shard.checksum:
                yield shard

    def next_number(self) -> int:
        """Return a number that no file in the folder has."""
        files = (path.name for path in self.folder.iterdir() if _FILE.fullmatch(path.name))
        return max((int(file.partition(".")[0]) for file in files), default=0) + 1

    def place(self, shard: FinishedShard, folder: Path, number: int) -> NewShard:
        """Give a shard its place among those of the index, where it waits to be committed."""
        path = folder / f"{number:06d}.h5"
        with as_store_error(path):
            path.unlink(missing_ok=True)  # of a run that was killed before it committed
            try:
                os.link(self.folder / shard.file, path)
            except OSError:  # not everywhere are there hard links
                shutil.copyfile(self.folder / shard.file, path)
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
            sync_folder(folder)
        return NewShard(number, path.name, shard.checksum, shard.rows)


def read_state(directory: Path) -> ReembedState | None:
    """Return what an unfinished ``reembed`` of an index has left, or None.

    Raises
    ------
    StoreError
        If its folder or its list is a link or not a regular file.
    """
    folder = directory / REEMBED_FOLDER
    if folder.is_symlink():
        raise StoreError(f"{folder} is a link, and an index is changed only where it is; delete it")
    try:
        with open_regular(folder / _STATE) as file:
            value = parse_json(file.read(_MAX_BYTES))
        shards = [_parse(shard) for shard in value["shards"]]
        return ReembedState(folder, str(value["encoder"]), str(value["former"]), shards)
    except (OSError, ValueError, LookupError, TypeError):  # missing or damaged: it starts over
        return None


def discard_state(directory: Path) -> None:
    """Delete what ``reembed`` has left."""
    folder = directory / REEMBED_FOLDER
    if not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)


def _parse(value: Any) -> FinishedShard:
    shard = FinishedShard(
        str(value["file"]),
        str(value["checksum"]),
        [StoredRow(str(h), int(w), int(b), int(n), str(c)) for h, w, b, n, c in value["rows"]],
        [str(checksum) for checksum in value["former"]],
    )
    if not _FILE.fullmatch(shard.file) or len(shard.rows) != len(shard.former):
        raise ValueError("an impossible shard")
    return shard
