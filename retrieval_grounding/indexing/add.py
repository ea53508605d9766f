"""Adding images to an index one by one, from wherever a program has them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..core.addresses import is_path, is_url
from ..core.errors import ImageError
from ..core.reports import BuildOptions, BuildReport, FileNote, SkippedFile
from ..core.types import RowKey
from ..data.decoder import Decoder
from ..data.image_source import ImageSource, address_of, hash_content, hash_pixels, read_source
from ..data.images import TRANSIENT_REASONS, as_shown
from ..data.photo import perceptual_hash, read_exif
from ..data.prefetch import LoadedImage, settled
from ..data.reading import size_and_time
from ..matching.calibrate import calibrate_index
from ..models.detector import Detector
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.rows import KnownFile
from ..storage.vectors.sync import lacks_many_regions, sync_vectors
from .image_passes import sync_image_passes
from .merge import has_many_small_shards, merge_small_shards
from .metadata import store_metadata, table_of, with_addresses
from .model_spec import Models, checked_loader, recorded_spec
from .shard_writer import ShardWriter
from .tuning_phrases import phrase_source
from .write_session import writable_catalog

__all__ = ["add_to_index"]

_MAX_BATCH_PIXELS = 64_000_000

Item = LoadedImage | SkippedFile


def add_to_index(
    directory: Path,
    sources: Iterable[ImageSource],
    ids: Sequence[object] | None,
    metadata: Sequence[Mapping[str, Any]] | None,
    detector: str | Detector | None,
    encoder: Encoder,
    decoder: Decoder,
    device: str,
    options: BuildOptions,
    timeout: float = 0.0,
) -> BuildReport:
    """Add images to an index; see `Index.add`.

    Parameters
    ----------
    directory : Path
        Folder of the index.
    sources : iterable of ImageSource
        Read one after the other.
    ids, metadata : sequence, optional
        What the user says about each image.
    detector : str, Detector or None
        The detector that built the index; what it names itself if left out.
    encoder : Encoder
        The encoder that built the index.
    decoder : Decoder
        Decodes files.
    device : str
        Where the detector runs.
    options : BuildOptions
        Images per batch and per shard.
    timeout : float
        Seconds to wait for a different writer.
    """
    started = time.perf_counter()
    table = None
    if ids is not None or metadata is not None:
        sources = list(sources)
        table = table_of(len(sources), ids, metadata)
    with writable_catalog(directory, timeout) as catalog:

        def load_models() -> Models:
            spec = recorded_spec(catalog, detector=detector, encoder=encoder)
            return checked_loader(catalog, spec, device)()

        writer = ShardWriter(catalog, load_models, options)
        adding = _Adding(catalog, writer, decoder, options)
        report = adding.run(sources)
        if table is not None:
            described = with_addresses(table, adding.addresses)
            report.described, report.unmatched = store_metadata(catalog, described)
        # Writing the vector index for each image would copy all of it.
        merge_small_shards(catalog, options.shard_images, indexed=False)
        if lacks_many_regions(catalog) or has_many_small_shards(catalog, options.shard_images):
            merge_small_shards(catalog, options.shard_images, indexed=True)
            sync_vectors(catalog, phrase_source(catalog, lambda: encoder), options.progress)
            sync_image_passes(catalog, options.progress)
            calibrate_index(catalog, encoder)
        report.seconds = time.perf_counter() - started - writer.loading_seconds
    return report


class _Adding:
    """Adds images in one session; `addresses` are those of all that were read, in order."""

    def __init__(
        self, catalog: Catalog, writer: ShardWriter, decoder: Decoder, options: BuildOptions
    ) -> None:
        self.addresses: list[str] = []
        self._catalog = catalog
        self._writer = writer
        self._decoder = decoder
        self._options = options
        self._places: dict[str, RowKey] = {}
        self._report = BuildReport()
        self._seen: dict[str, KnownFile] = {}
        self._used: set[RowKey] = set()

    def run(self, sources: Iterable[ImageSource]) -> BuildReport:
        """Read, embed and commit images."""
        writer, report = self._writer, self._report
        for group in self._groups(enumerate(sources)):
            writer.embed(group, self._places)
            for item in group:
                self._link(item)
            writer.commit_full()
        writer.commit()
        report.embedded, report.regions = writer.embedded, writer.regions
        return report

    def _groups(self, sources: Iterator[tuple[int, ImageSource]]) -> Iterator[list[Item]]:
        group: list[Item] = []
        pixels = 0
        for number, source in sources:
            item = self._load(number, source)
            group.append(item)
            self.addresses.append(item.path)
            if isinstance(item, LoadedImage) and item.image is not None:
                pixels += item.image.width * item.image.height
            if len(group) >= self._options.batch_images or pixels >= _MAX_BATCH_PIXELS:
                yield group
                group, pixels = [], 0
        if group:
            yield group

    def _load(self, number: int, source: ImageSource) -> Item:
        """Read one image, and decode it unless its content is known."""
        name = address_of(source, "") if isinstance(source, (str, os.PathLike)) else None
        state = (-1, -1) if name is None else size_and_time(name)
        try:
            if name is not None:
                name.encode("utf-8")
            read = read_source(source)
            if isinstance(read, Image.Image):
                pixels = as_shown(read)
                digest = hash_pixels(pixels)
                name = name or address_of(source, digest)
                if self._is_known(digest):
                    return LoadedImage(name, -1, -1, digest, None)
                photo = read_exif(read)._replace(looks=perceptual_hash(pixels))
                return LoadedImage(name, -1, -1, digest, pixels, photo=photo)
            digest = hash_content(read)
            name = name or address_of(source, digest)
            size, mtime_ns = state if state[0] >= 0 else (len(read), -1)
            if self._is_known(digest):
                return LoadedImage(name, size, settled(mtime_ns), digest, None)
            decoded = self._decoder.decode_with_notes(read)
            return LoadedImage(name, size, settled(mtime_ns), digest, *decoded)
        except UnicodeEncodeError:
            readable = os.fsencode(str(name)).decode("utf-8", "backslashreplace")
            return SkippedFile(readable, "undecodable-name", "the file name is not UTF-8")
        except ImageError as error:
            return SkippedFile(name or f"image {number}", error.reason, error.detail, *state)

    def _is_known(self, digest: str) -> bool:
        if digest not in self._places:
            place = self._catalog.row_of_content(digest)
            if place is not None:
                self._places[digest] = place
        return digest in self._places

    def _link(self, item: Item) -> None:
        if isinstance(item, SkippedFile):
            self._skip(item)
            return
        place = self._places.get(item.content_hash)
        if place is None:
            detail = "the image by itself fills the memory of the device"
            self._skip(SkippedFile(item.path, "out-of-memory", detail, item.size, item.mtime_ns))
            return
        report = self._report
        report.found += 1
        report.notes += [FileNote(item.path, *note) for note in item.notes]
        self._writer.describe(item)
        known = self._seen.get(item.path) or self._catalog.known_file(item.path)
        now = KnownFile(item.size, item.mtime_ns, *place)
        if known is not None and known.key == place:
            report.unchanged += 1
        elif known is not None:
            report.updated += 1
        elif place in self._used or self._catalog.images_at([place]):
            report.duplicates += 1
        else:
            report.added += 1
        self._seen[item.path] = now
        self._used.add(place)
        if known != now:
            same = known is not None and known.key == place
            self._writer.link(item, place, touched=same, instead_of=None)

    def _skip(self, file: SkippedFile) -> None:
        self._report.found += 1
        self._report.skipped.append(file)
        has_place = is_url(file.path) or (is_path(file.path) and os.path.isabs(file.path))  # noqa: PTH117
        transient = file.reason in TRANSIENT_REASONS
        if has_place and not (transient and self._catalog.known_file(file.path)):
            self._writer.skip(file)
