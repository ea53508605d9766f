"""Compacting an index: copying the rows in use to new shards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.errors import StoreError
from ..core.reports import CompactReport
from ..core.types import RowKey
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.files import folder_size
from ..storage.rows import LiveRow
from ..storage.shard_format import write_shard
from ..storage.shards import ShardReader
from .write_session import write_session

__all__ = ["RowCopier", "compact_index", "rewrite_shards"]


def compact_index(
    directory: Path,
    load_encoder: Callable[[], Encoder],
    max_unused: float,
    shard_images: int,
    timeout: float = 0.0,
) -> CompactReport:
    """Rewrite shards that are partly unused, and merge small ones; see `Index.compact`."""
    with write_session(directory, timeout, load_encoder) as catalog:
        numbers = _choose_shards(catalog, max_unused, shard_images)
        return rewrite_shards(catalog, numbers, shard_images)


def _choose_shards(catalog: Catalog, max_unused: float, shard_images: int) -> list[int]:
    """Return the shards worth rewriting.

    These are shards of which more than the share `max_unused` is unused, and small shards if
    merging them gives fewer: a daily build leaves one small shard a day.
    """
    wasteful, small, images = [], [], 0
    for number, (regions, used_rows, used_regions) in catalog.shard_use().items():
        if regions - used_regions > max_unused * regions:
            wasteful.append(number)
        elif used_rows * 2 <= shard_images:
            small.append(number)
            images += used_rows
    if len(small) <= -(-images // shard_images):
        small = []
    return sorted(wasteful + small)


def rewrite_shards(
    catalog: Catalog,
    numbers: Sequence[int],
    shard_images: int,
    damaged: frozenset[RowKey] = frozenset(),
) -> CompactReport:
    """Copy the used rows of shards to new shards and delete the old ones.

    Each new shard is committed by itself, so a crash at any moment leaves a complete index.

    Parameters
    ----------
    catalog : Catalog
        Of the index; the caller holds the writer's lock.
    numbers : sequence of int
        Shards to rewrite.
    shard_images : int
        Images per new shard.
    damaged : set of RowKey
        Rows to leave out. A shard is kept as long as an image points to one of them.

    Raises
    ------
    StoreError
        If a row that is not in `damaged` is damaged.
    """
    folder = catalog.directory / "shards"
    before, size, use = catalog.shard_files(), folder_size(folder), catalog.shard_use()
    rows = (row for number in numbers for row in catalog.live_rows(number))
    intact = (row for row in rows if (row.shard, row.row) not in damaged)
    copier = RowCopier(catalog)
    finished = {number for number in numbers if not use[number][1]}
    while chunk := list(islice(intact, shard_images)):
        finished |= {row.shard for row in chunk}
        copier.copy(chunk, finished)
    if finished:
        copier.drop(catalog.replace_rows([], None, finished))
    remaining = catalog.shard_use()
    unused = [sum(total - used for total, _, used in state.values()) for state in (use, remaining)]
    return CompactReport(
        len(before), len(remaining), unused[0] - unused[1], size - folder_size(folder)
    )


class RowCopier:
    """Copies rows of shards to new ones; the caller holds the writer's lock."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._folder = catalog.directory / "shards"
        self._files = catalog.shard_files()

    def copy(self, rows: Sequence[LiveRow], finished: Iterable[int]) -> None:
        """Write `rows` to one new shard, and drop the shards of `finished` that are now unused."""
        readers = {
            number: ShardReader(self._folder / self._files[number], number)
            for number in dict.fromkeys(row.shard for row in rows)
        }
        labels: dict[str, npt.NDArray[np.float16]] = {}
        for reader in readers.values():
            labels |= dict(zip(reader.label_names, reader.label_embeddings, strict=True))
        records = []
        for row in rows:
            reader = readers[row.shard]
            if reader.row_checksum(row.row) != row.checksum:
                raise StoreError(
                    f"the shard {reader.path} is damaged; run "
                    f"'retrieval-grounding verify {self._catalog.directory} --repair'"
                )
            records.append(reader.record(row.row, row.content_hash))
        first = readers[rows[0].shard]
        self._catalog.check_lock()
        shard = write_shard(
            self._folder,
            self._catalog.next_shard(),
            records,
            embed_labels=lambda names: np.stack([labels[name] for name in names]),
            detector=first.detector,
            encoder=first.encoder,
        )
        moves = [((row.shard, row.row), (shard.number, number)) for number, row in enumerate(rows)]
        self.drop(self._catalog.replace_rows(moves, shard, finished))

    def drop(self, files: Iterable[str]) -> None:
        """Delete shards that the catalog has forgotten.

        A reader that has one mapped keeps it. A reader that tries to open it too late starts over
        with the new state of the catalog.
        """
        for file in files:
            # Deleting fails on Windows while a reader has the file mapped; the next writer sweeps.
            with contextlib.suppress(OSError):
                (self._folder / file).unlink()
