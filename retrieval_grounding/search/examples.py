"""Examples as embeddings: an image file, a box in it, a region of the index, or a vector."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..core.errors import QueryError
from ..core.query.examples import Example
from ..core.regions import Regions
from ..core.types import RowKey
from ..models.checks import encode_regions
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.region_ids import split_region_ids
from ..storage.region_store import RegionStore

__all__ = ["EmbeddedExample", "embed_example"]


class EmbeddedExample(NamedTuple):
    """An example as a query looks for it.

    Parameters
    ----------
    embedding : float32 array of shape (d,)
        Unit length.
    weight : float
        How much it counts.
    content_hash : str or None
        The image that it is a region of, if that is in the index; it is not found again.
    """

    embedding: npt.NDArray[np.float32]
    weight: float
    content_hash: str | None


def embed_example(
    example: Example, encoder: Encoder, catalog: Catalog, store: RegionStore
) -> EmbeddedExample:
    """Return the embedding of an example.

    Raises
    ------
    ImageError
        If its image cannot be used.
    QueryError
        If its box is outside of the image, the index has no such region, or its vector is not of
        the length of the encoder's.
    """
    content_hash: str | None = None
    if example.content_hash is not None:
        content_hash, row = _find(catalog, store, example)
    elif example.vector is not None:
        row = np.array(example.vector, np.float32)
        if len(row) != catalog.dimension:
            raise QueryError(
                f"the vector of an example has {len(row)} numbers, and the embeddings of this "
                f"index have {catalog.dimension}"
            )
    else:
        row = _encode(example, encoder)
    row = row.astype(np.float32)
    return EmbeddedExample(row / np.linalg.norm(row), example.weight, content_hash)


def _encode(example: Example, encoder: Encoder) -> npt.NDArray[np.floating]:
    assert example.image is not None
    from ..data.images import load_image  # most queries decode nothing

    pixels = load_image(example.image)
    regions = Regions.whole_image(*pixels.size)
    if example.box is not None:
        x1, y1, x2, y2 = example.box
        box = (max(x1, 0.0), max(y1, 0.0), min(x2, pixels.width), min(y2, pixels.height))
        if not (box[2] - box[0] >= 1 and box[3] - box[1] >= 1):
            raise QueryError(
                f"the box {x1:g},{y1:g},{x2:g},{y2:g} is not inside the image, which has "
                f"{pixels.width} × {pixels.height} pixels"
            )
        regions = Regions(np.array([box], np.float32), np.ones(1, np.float32), ["example"])
    row: npt.NDArray[np.floating] = encode_regions(encoder, [pixels], [regions])[0]
    return row


def _find(
    catalog: Catalog, store: RegionStore, example: Example
) -> tuple[str, npt.NDArray[np.floating]]:
    """Return the hash and the embedding of a region of the index."""
    assert example.content_hash is not None
    assert example.region is not None
    with catalog.reading():
        found = catalog.content_rows(example.content_hash)
        if len(found) != 1:
            problem = "several images have" if found else "no image of the index has"
            raise QueryError(f"{problem} a content hash that begins with {example.content_hash}")
        [(content_hash, key)] = found
        store.refresh()
    table = store.gather([key])
    number = _number_in_image(store, key, example.region)
    if not 0 <= number < len(table):
        raise QueryError(
            f"the image {content_hash} has the regions 0 to {len(table) - 1}, not {example.region}"
        )
    row: npt.NDArray[np.floating] = table.embeddings[number]
    return content_hash, row


def _number_in_image(store: RegionStore, key: RowKey, region: int) -> int:
    """Return the number of a region in its image; `region` may be its id in the index."""
    shard, _ = split_region_ids(np.array([region], np.int64))
    return region - store.region_id(key, 0) if shard[0] else region
