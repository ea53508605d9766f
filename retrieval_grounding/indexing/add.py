"""Adding images to an existing index, with ids and metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.paths import absolute_path
from ..core.reports import BuildOptions, BuildReport
from ..core.types import PathLike
from ..data.sources import search
from ..matching.calibrate import calibrate_index
from ..models.encoder import Encoder
from .metadata import store_metadata, table_of
from .model_spec import check_named, checked_loader, recorded_spec
from .pipeline import add_images
from .write_session import write_session

__all__ = ["add_to_index"]


def add_to_index(
    directory: Path,
    load_encoder: Callable[[], Encoder],
    sources: Sequence[PathLike],
    ids: Sequence[object] | None,
    metadata: Sequence[Mapping[str, Any]] | None,
    *,
    models: Mapping[str, Any],
    device: str,
    options: BuildOptions,
    timeout: float,
) -> BuildReport:
    """Bring an index up to date with some images; see `Index.add`."""
    table = table_of([absolute_path(source) for source in sources], ids, metadata)
    collection = search(sources, options, directory)
    with write_session(directory, timeout, load_encoder) as catalog:
        spec = recorded_spec(catalog, **models)
        load = checked_loader(catalog, spec, device)
        check_named(catalog, spec, load)
        report = add_images(catalog, collection, load, options)
        if table is not None:
            report.described, report.unmatched = store_metadata(catalog, table)
        if report.embedded:
            calibrate_index(catalog, load().encoder)
    return report
