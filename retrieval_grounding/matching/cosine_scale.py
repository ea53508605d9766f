"""Mean and spread of an encoder's cosines, measured on the regions and labels of images."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..core.groups import is_group
from ..core.region_table import RegionTable
from ..core.types import RowKey
from ..storage.catalog import Catalog
from ..storage.region_store import RegionStore

__all__ = ["catalog_scale", "cosine_scale", "stored_cosine_scale"]


_IMAGES = 256
_REGIONS = 4000
_LEAST_SPREAD = 1e-3


def cosine_scale(table: RegionTable) -> npt.NDArray[np.float32] | None:
    """Return what makes cosines of different encoders comparable.

    Parameters
    ----------
    table : RegionTable
        Regions of some images; single things count, with the labels that they have.

    Returns
    -------
    float32 array of shape (4,), or None
        For regions and class names, mean and spread of the cosines; the same for class names among
        each other. With one name, the latter are those of the regions. None if there is no name, or
        if there are fewer than two regions.
    """
    names = table.label_embeddings.astype(np.float32)
    used = np.zeros(len(names), bool)
    used[table.labels] = True
    used &= names.any(axis=1) & ~np.array([is_group(name) for name in table.label_names], bool)
    regions = table.embeddings[used[table.labels]]
    step = max(1, len(regions) // _REGIONS)
    regions = regions[::step].astype(np.float32)
    names = names[used]
    if not len(names) or len(regions) < 2:
        return None
    by_name = regions @ names.T
    spread = float((by_name - by_name.mean(axis=0)).std())
    among_names = (names @ names.T)[~np.eye(len(names), dtype=bool)]
    # With two names there is one cosine, which has no spread; with one name there is none.
    name_spread = float(among_names.std()) if len(names) > 2 else spread
    scale = [
        float(by_name.mean()),
        max(spread, _LEAST_SPREAD),
        float((among_names if len(names) > 1 else by_name).mean()),
        max(name_spread, _LEAST_SPREAD),
    ]
    return np.array(scale, np.float32)


def stored_cosine_scale(
    store: RegionStore, keys: Sequence[RowKey]
) -> npt.NDArray[np.float32] | None:
    """Return the :func:`cosine_scale` of up to 256 images, evenly spread over `keys`."""
    if not keys:
        return None
    chosen = keys[:: max(1, len(keys) // _IMAGES)][:_IMAGES]
    return cosine_scale(store.gather(chosen))


def catalog_scale(catalog: Catalog) -> npt.NDArray[np.float32] | None:
    """Return the :func:`cosine_scale` of an index."""
    keys = list(dict.fromkeys((image.shard, image.row) for image in catalog.images()))
    with contextlib.closing(RegionStore(catalog)) as store:
        return stored_cosine_scale(store, keys)
