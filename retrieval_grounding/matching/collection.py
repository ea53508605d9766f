"""Probabilities of one collection's own: fitted without labels, and kept in its catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

from ..core.errors import GroundingError
from ..core.text import counted
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.files import file_checksum
from ..storage.region_store import RegionStore
from .calibration import Calibration
from .matcher import Matcher

__all__ = [
    "calibrate_collection",
    "forget_calibrations",
    "read_calibrations",
    "with_own_calibration",
]

_SETTING = "calibrations"


def calibrate_collection(catalog: Catalog, encoder: Encoder, matcher: Matcher) -> Calibration:
    """Fit a matcher's probabilities to pseudo-queries of an index, and store them in it.

    The caller holds the writer's lock.

    Raises
    ------
    GroundingError
        If the index has too few images with detected objects, or their scores say nothing.
    """
    from .calibrate import calibrate_matcher  # reading calibrations needs none of it

    keys = list(dict.fromkeys((image.shard, image.row) for image in catalog.images()))
    calibration = calibrate_matcher(matcher, RegionStore(catalog), encoder, keys)
    if calibration is None:
        raise GroundingError(
            f"probabilities cannot be fitted to {counted(len(keys), 'image')}; add images that "
            "show objects which the detector knows"
        )
    known = {name: own.as_dict() for name, own in read_calibrations(catalog).items()}
    catalog.set_setting(_SETTING, known | {_identity(matcher): calibration.as_dict()})
    return calibration


def read_calibrations(catalog: Catalog) -> dict[str, Calibration]:
    """Return the calibrations that an index holds, by the identity of their matcher.

    Raises
    ------
    StoreError
        If they are damaged.
    """
    return catalog.parse_setting(_SETTING, _parse)


def with_own_calibration(catalog: Catalog, matcher: Matcher) -> Matcher:
    """Return a matcher with the calibration that an index holds for it, if there is one."""
    known = read_calibrations(catalog)
    own = known.get(_identity(matcher)) if known else None  # weights need not be read for nothing
    if own is None or not is_dataclass(matcher) or isinstance(matcher, type):
        return matcher
    calibrated: Matcher = replace(matcher, calibration=own)
    return calibrated


def forget_calibrations(catalog: Catalog) -> None:
    """Remove the calibrations that an index holds."""
    catalog.set_setting(_SETTING, None)


def _identity(matcher: Matcher) -> str:
    """Return what changes with a matcher's scores: its name, and the checksum of its weights."""
    file = getattr(matcher, "file", None)
    return f"{matcher.name} {file_checksum(file)}" if isinstance(file, Path) else matcher.name


def _parse(value: Any) -> dict[str, Calibration]:
    if not isinstance(value, Mapping):
        if value is None:
            return {}
        raise TypeError("the calibrations are not a table")
    return {str(name): Calibration.from_dict(own) for name, own in value.items()}
