"""Looking after an index: forgetting images, rewriting shards, deleting what kills left behind."""

from __future__ import annotations

import contextlib
import fnmatch
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import StoreError
from .storage.catalog import Catalog
from .storage.files import TEMPORARY_SUFFIX, as_store_error, folder_size
from .storage.lock import writer_lock
from .storage.rows import LiveRow, Place
from .storage.shards import ShardReader, write_shard
from .vectors.following import refresh_vectors

__all__ = [
    "CompactReport",
    "choose_shards",
    "matching_images",
    "remove_images",
    "rewrite_shards",
    "sweep_leftovers",
    "writing",
]


@dataclass(frozen=True)
class CompactReport:
    """What compacting did.

    Parameters
    ----------
    shards_before, shards_after : int
        Shards of the index.
    regions_dropped : int
        Regions of changed and removed images that are gone for good.
    bytes_freed : int
        Of the disk.
    """

    shards_before: int
    shards_after: int
    regions_dropped: int
    bytes_freed: int


@contextlib.contextmanager
def writing(directory: Path) -> Iterator[Catalog]:
    """Open an index for changes, and let its vector index follow them at the end.

    Raises
    ------
    StoreError
        If there is no index or it cannot be written.
    StoreLockedError
        If another process is writing to it.
    """
    Catalog(directory).close()  # says what is wrong before a lock is put there
    with writer_lock(directory), contextlib.closing(Catalog(directory, writable=True)) as catalog:
        sweep_leftovers(catalog)
        yield catalog
        refresh_vectors(catalog)


def matching_images(
    catalog: Catalog, paths: Iterable[str | os.PathLike[str]], pattern: str | None = None
) -> list[str]:
    """Return the images that are named: by path, by a folder above them, or by a glob pattern.

    Raises
    ------
    StoreError
        If one of `paths` or the pattern names no image of the index.
    """
    known = sorted(catalog.known_files())
    chosen: dict[str, None] = {}
    for path in paths:
        wanted = os.path.abspath(path)  # noqa: PTH100 - links must not be resolved
        folder = os.path.join(wanted, "")  # noqa: PTH118
        found = [name for name in known if name == wanted or name.startswith(folder)]
        if not found:
            raise StoreError(f"{catalog.directory} has no image {wanted!r} and none below it")
        chosen |= dict.fromkeys(found)
    if pattern is not None:
        found = fnmatch.filter(known, pattern)
        if not found:
            raise StoreError(
                f"no image of {catalog.directory} matches {pattern!r}; patterns match whole "
                "absolute paths, so begin with '*'"
            )
        chosen |= dict.fromkeys(found)
    return list(chosen)


def remove_images(catalog: Catalog, paths: Sequence[str]) -> None:
    """Forget images; the caller holds the writer's lock.

    Their rows stay in the shards until these are compacted.
    """
    catalog.commit(removed=paths)


def choose_shards(catalog: Catalog, max_unused: float, shard_images: int) -> list[int]:
    """Return the shards worth rewriting.

    These are shards of which more than the share `max_unused` is unused, and small shards, if
    several together make fewer: daily builds leave one small shard a day.
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
    damaged: frozenset[Place] = frozenset(),
) -> CompactReport:
    """Copy the used rows of shards to new shards, and delete the old ones.

    Each new shard is committed by itself, so a crash at any instant leaves a complete index.

    Parameters
    ----------
    catalog : Catalog
        Of the index; the caller holds the writer's lock.
    numbers : sequence of int
        Shards to rewrite.
    shard_images : int
        Images in a new shard.
    damaged : set of Place
        Rows to leave out; a shard stays as long as an image points to one of them.

    Raises
    ------
    StoreError
        If a row is damaged that `damaged` does not name.
    """
    folder = catalog.directory / "shards"
    before, size, use = catalog.shard_files(), folder_size(folder), catalog.shard_use()
    rows = (row for number in numbers for row in catalog.shard_rows(number, live=True))
    intact = (row for row in rows if (row.shard, row.row) not in damaged)
    copier = _Copier(catalog)
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


def sweep_leftovers(catalog: Catalog) -> None:
    """Delete what killed processes left: unfinished files, and shards without a catalog entry.

    The caller holds the writer's lock.
    """
    committed = set(catalog.shard_files().values())
    shards = catalog.directory / "shards"
    with as_store_error(catalog.directory):
        for path in shards.glob("*.h5"):
            if path.name not in committed:
                path.unlink()
        for folder in (catalog.directory, shards):
            for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
                path.unlink()


class _Copier:
    """Copies rows of shards to new ones."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._folder = catalog.directory / "shards"
        self._files = catalog.shard_files()

    def copy(self, rows: Sequence[LiveRow], finished: Iterable[int]) -> None:
        """Write `rows` to one new shard and drop those of `finished` that are unused by then."""
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

        A reader that has one mapped keeps it; one that opens it late starts over with the new
        state of the catalog.
        """
        for file in files:
            # It may fail, as on Windows while a reader has the file mapped: the next writer sweeps.
            with contextlib.suppress(OSError):
                (self._folder / file).unlink()
