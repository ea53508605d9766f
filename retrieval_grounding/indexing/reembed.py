"""Renewing the embeddings of an index with another encoder: same images, same boxes."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import GroundingError, StoreError
from ..core.interrupt import graceful_interrupt
from ..core.progress import progress_bar
from ..core.reports import BuildOptions, SkippedFile
from ..core.text import counted
from ..data.prefetch import LoadedImage, read_batches
from ..matching.calibrate import calibrate_index
from ..models.batch_size import AdaptiveBatchSize
from ..models.checks import embed_labels, encode_regions
from ..models.clip import load_encoder
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore
from ..storage.rows import LiveRow
from ..storage.shard_format import ImageRecord, write_shard
from .model_spec import absolute_model, consent_to, encoder_fingerprint
from .reembed_state import (
    REEMBED_FOLDER,
    FinishedShard,
    ReembedState,
    discard_state,
    read_state,
)
from .reembed_switch import ReembedReport, row_name, switch
from .write_session import write_session

__all__ = ["ReembedReport", "load_named", "reembed_index"]


def reembed_index(
    directory: Path,
    encoder: Encoder,
    name: str | None,
    *,
    drop_missing: bool = False,
    options: BuildOptions | None = None,
    timeout: float = 0.0,
) -> ReembedReport:
    """Embed the regions of an index again, and switch to the new embeddings in one transaction.

    Until then, queries use the old ones. New shards wait in a folder of the index; a run that is
    killed resumes there.

    Parameters
    ----------
    directory : Path
        Folder of the index.
    encoder : Encoder
        The new encoder.
    name : str or None
        What the index records as its name; None if it was given as an object.
    drop_missing : bool
        Remove images whose files are gone, bad or have changed. Otherwise such an image is an
        error once all others are embedded, and nothing is switched.
    options : BuildOptions, optional
        Images per batch and per shard, workers, memory, progress.
    timeout : float
        Seconds to wait for a different writer.

    Raises
    ------
    GroundingError
        If images cannot be embedded again, and are not to be dropped.
    ModelError
        If the encoder returns something impossible.
    """
    options = options or BuildOptions()
    started = time.perf_counter()
    with write_session(directory, timeout, lambda: encoder) as catalog:
        report = ReembedReport(str(encoder.fingerprint))
        if encoder.fingerprint.matches(encoder_fingerprint(catalog)):
            report.notes.append("the index has been embedded with this encoder already")
            discard_state(directory)
            return report
        todo = _live_rows(catalog)
        state = _open_state(catalog, encoder)
        done = {name for shard in state.shards for name in shard.names}
        report.resumed = sum(row_name(row) in done for row in todo)
        left = [row for row in todo if row_name(row) not in done]
        failed = _Embedding(catalog, state, encoder, options).run(left)
        if failed and not drop_missing:
            raise GroundingError(_explain(failed))
        report.dropped = failed
        switch(catalog, state, encoder, name, todo, report)
        if name is not None:
            consent_to(directory, None, str(absolute_model(name)))
        calibrate_index(catalog, encoder)
    discard_state(directory)
    report.seconds = time.perf_counter() - started
    return report


def load_named(clip: str | Encoder, device: str) -> Encoder:
    """Return an encoder by name, with its image tower; an object is passed through."""
    if not isinstance(clip, (str, os.PathLike)):
        return clip
    encoder = load_encoder(str(absolute_model(clip)), device)
    encoder.load_image_tower()  # a failure is reported before any image is read
    return encoder


def _live_rows(catalog: Catalog) -> list[LiveRow]:
    return [row for number in catalog.shard_files() for row in catalog.live_rows(number)]


def _open_state(catalog: Catalog, encoder: Encoder) -> ReembedState:
    """Return the state of an unfinished run with the same encoder, or a new one."""
    former = str(encoder_fingerprint(catalog))
    found = read_state(catalog.directory)
    wanted = str(encoder.fingerprint)
    if found is None or (found.encoder, found.former) != (wanted, former):
        discard_state(catalog.directory)
        found = ReembedState(catalog.directory / REEMBED_FOLDER, wanted, former)
        try:
            found.folder.mkdir()
        except OSError as error:
            raise StoreError(f"{found.folder} cannot be created: {error.strerror}") from error
    found.shards = list(found.intact())
    found.save()
    return found


class _Embedding:
    """Embeds rows and writes them to new shards in the folder of a state."""

    def __init__(
        self, catalog: Catalog, state: ReembedState, encoder: Encoder, options: BuildOptions
    ) -> None:
        self._catalog = catalog
        self._state = state
        self._encoder = encoder
        self._options = options
        self._store = RegionStore(catalog)
        self._batches: AdaptiveBatchSize = AdaptiveBatchSize()
        self._records: list[ImageRecord] = []
        self._former: list[str] = []

    def run(self, rows: Sequence[LiveRow]) -> list[SkippedFile]:
        """Embed rows; return an image of each row that could not be."""
        paths = self._catalog.images_at([(row.shard, row.row) for row in rows])
        choices = {row: [image.path for image in paths[row.shard, row.row]] for row in rows}
        failed: dict[LiveRow, SkippedFile] = {}
        pending, turn = list(rows), 0
        with (
            contextlib.closing(self._store),
            graceful_interrupt() as stopping,
            progress_bar("Embedding", len(rows), "images", self._options.progress) as advance,
        ):
            while pending and not stopping():  # copies of an image are tried one after the other
                for row, problem in self._embed(pending, choices, turn, stopping):
                    failed.pop(row, None)
                    if problem is not None:
                        failed[row] = problem
                    advance(1 if turn == 0 else 0)
                turn += 1
                pending = [row for row in failed if turn < len(choices[row])]
            self._write()
            if stopping():
                raise KeyboardInterrupt
        return list(failed.values())

    def _embed(
        self,
        rows: Sequence[LiveRow],
        choices: Mapping[LiveRow, Sequence[str]],
        turn: int,
        stopping: Callable[[], bool],
    ) -> Iterator[tuple[LiveRow, SkippedFile | None]]:
        options = self._options
        groups = read_batches(
            [choices[row][turn] for row in rows],
            (),
            options.workers,
            count=options.batch_images,
            memory=options.memory,
            stopping=stopping,
        )
        waiting = iter(rows)
        with contextlib.closing(groups):
            for group in groups:
                pairs = [(next(waiting), file) for file in group]
                good = []
                for row, file in pairs:
                    problem = _problem(row, file)
                    if problem is None:
                        assert isinstance(file, LoadedImage)
                        good.append((row, file))
                    else:
                        yield row, problem
                for row, problem in self._encode(good):
                    yield row, problem
                if len(self._records) >= options.shard_images:
                    self._write()

    def _encode(
        self, items: Sequence[tuple[LiveRow, LoadedImage]]
    ) -> Iterator[tuple[LiveRow, SkippedFile | None]]:
        stored = [self._stored(row) for row, _ in items]

        def encode(numbers: list[int]) -> list[Any]:
            images = [items[number][1].image for number in numbers]
            regions = [stored[number].regions for number in numbers]
            found = encode_regions(self._encoder, [i for i in images if i is not None], regions)
            return np.split(found, np.cumsum([len(own) for own in regions])[:-1])

        for (row, file), record, found in zip(
            items, stored, self._batches(encode, [*range(len(items))]), strict=True
        ):
            if found is None:
                detail = "the image by itself fills the memory of the device"
                yield row, SkippedFile(file.path, "out-of-memory", detail)
                continue
            self._records.append(
                ImageRecord(
                    record.content_hash,
                    record.width,
                    record.height,
                    record.regions,
                    found,
                    record.colors,
                    record.thumbnail,
                )
            )
            self._former.append(row.checksum)
            yield row, None

    def _stored(self, row: LiveRow) -> ImageRecord:
        reader = self._store.open_shard(row.shard)
        if reader.row_checksum(row.row) != row.checksum:
            raise StoreError(
                f"the shard {reader.path} is damaged; run "
                f"'retrieval-grounding verify {self._catalog.directory} --repair' first"
            )
        return reader.record(row.row, row.content_hash)

    def _write(self) -> None:
        if not self._records:
            return
        self._catalog.check_lock()
        shard = write_shard(
            self._state.folder,
            self._state.next_number(),
            self._records,
            embed_labels=partial(embed_labels, self._encoder),
            detector=self._catalog.setting("detector_fingerprint"),
            encoder=str(self._encoder.fingerprint),
        )
        self._state.shards.append(
            FinishedShard(shard.file, shard.checksum, list(shard.rows), self._former)
        )
        self._state.save()
        self._records, self._former = [], []


def _problem(row: LiveRow, file: LoadedImage | SkippedFile) -> SkippedFile | None:
    if isinstance(file, SkippedFile):
        return file
    if file.content_hash != row.content_hash:
        return SkippedFile(file.path, "changed", "the file is not what was indexed")
    if file.image is None or file.image.size != (row.width, row.height):
        return SkippedFile(file.path, "changed", "the image has another size than was indexed")
    return None


def _explain(failed: Sequence[SkippedFile]) -> str:
    gone = [file for file in failed if file.reason == "changed"]
    kinds = [f"{len(gone)} changed"] if gone else []
    if len(failed) > len(gone):
        kinds.append(f"{len(failed) - len(gone)} missing or unreadable")
    return (
        f"{counted(len(failed), 'image')} cannot be embedded again ({', '.join(kinds)}), such as "
        f"{failed[0].path}; bring the files back, update the index with 'build' where they have "
        "changed, or repeat with --drop-missing to remove these images; everything else is "
        "embedded and kept for that"
    )
