"""Deleting what killed writers left behind, and nothing else."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ..core.errors import StoreError
from ..matching.names import FOLDER
from ..matching.pass_record import PASS_FOLDER
from ..storage.catalog import Catalog
from ..storage.files import as_store_error, is_plain, is_temporary
from ..storage.shard_file import map_shard
from ..storage.shard_format import SHARD_FILES
from .model_spec import encoder_fingerprint
from .place import REBUILDING, refuse_links
from .reembed_state import discard_state, read_state

__all__ = ["sweep_leftovers"]

_HDF5 = b"\x89HDF\r\n\x1a\n"


def sweep_leftovers(catalog: Catalog) -> None:
    """Delete what killed writers left behind: unfinished files, and shards not in the catalog.

    Files count as such by their names and, for shards, by the models that wrote them; everything
    else in the folder of the index stays. The caller holds the writer's lock.

    Raises
    ------
    StoreError
        If a link leads out of the index, a file that is not part of the index has the name of its
        next shards, or a rebuild of the catalog has not finished.
    """
    if catalog.setting(REBUILDING):
        raise StoreError(
            f"the catalog of {catalog.directory} has been rebuilt only in part; build again from "
            "the folder of its images to finish"
        )
    refuse_links(catalog.directory)
    unfinished = read_state(catalog.directory)
    encoder = str(encoder_fingerprint(catalog))
    # A killed 'reembed' leaves shards of the encoder to be, or of the one that was.
    encoders = {encoder, *((unfinished.encoder, unfinished.former) if unfinished else ())}
    committed, first_free = set(catalog.shard_files().values()), catalog.next_shard()
    shards = catalog.directory / "shards"
    with as_store_error(catalog.directory):
        folders = (catalog.directory, catalog.directory / FOLDER, catalog.directory / PASS_FOLDER)
        for folder in (*folders, shards):
            for path in folder.iterdir() if folder.is_dir() else ():
                if is_temporary(path.name) and is_plain(path):
                    path.unlink()
        for path in shards.iterdir() if shards.is_dir() else ():
            name = SHARD_FILES.fullmatch(path.name)
            if name is None or path.name in committed:
                continue
            if is_plain(path) and not _is_foreign(path, catalog, encoders):
                path.unlink()
            elif int(name[1]) >= first_free:
                raise StoreError(
                    f"{path} is not part of this index, but new shards will need its name; move "
                    "it to a different folder"
                )
        if unfinished is not None and unfinished.encoder == encoder:  # only its end was missing
            discard_state(catalog.directory)


def _is_foreign(path: Path, catalog: Catalog, encoders: Collection[str]) -> bool:
    """Return whether a file is an HDF5 file that models other than the index's have written."""
    with path.open("rb") as file:
        if file.read(len(_HDF5)) != _HDF5:
            return False  # what a failing disk has left of a shard
    try:
        shard = map_shard(path)
    except Exception:  # h5py raises almost any error on files that are not shards
        return True
    detector = catalog.setting("detector_fingerprint")
    return shard.detector != detector or shard.encoder not in encoders
