"""Splitting examples into training, validation and calibration, by the contents of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..core.errors import GroundingError
from ..core.types import RowKey
from ..storage.rows import LiveRow
from .dataset import COLUMNS, Examples

__all__ = ["Split", "content_groups", "split_examples"]


_HELD_OUT_SHARE = 0.1
"""Share of the images for validation, and the same again for calibration."""


@dataclass(frozen=True)
class Split:
    """Examples for training, validation and calibration, of images with different contents.

    Parameters
    ----------
    training, validation, calibration : Examples
        Validation and calibration have located examples.
    reused : int
        Held-out images that the matcher to start from was trained on.
    """

    training: Examples
    validation: Examples
    calibration: Examples
    reused: int

    @property
    def held_out(self) -> Examples:
        """The examples of validation and calibration."""
        first, second = self.validation, self.calibration
        return Examples(
            first.phrases,
            *(np.concatenate([getattr(first, name), getattr(second, name)]) for name in COLUMNS),
        )


def content_groups(
    keys: Sequence[RowKey], rows: Mapping[RowKey, LiveRow] | None
) -> npt.NDArray[np.int64]:
    """Return the number of each image's content, shape (images,): copies have the same.

    Copies have the same file content or, if only metadata differ, the same regions with the same
    embeddings. Without `rows`, every image counts as different.
    """
    if rows is None:
        return np.arange(len(keys))
    by_content: dict[str, int] = {}
    by_regions: dict[str, int] = {}
    groups = []
    for number, key in enumerate(keys):
        row = rows[key]
        known = by_content.get(row.content_hash, by_regions.get(row.checksum, number))
        by_content[row.content_hash] = by_regions[row.checksum] = known
        groups.append(known)
    return np.unique(np.array(groups, np.int64), return_inverse=True)[1].astype(np.int64)


def split_examples(
    examples: Examples,
    groups: npt.NDArray[np.int64],
    seen: npt.NDArray[np.bool_],
    seed: int,
    named: npt.NDArray[np.bool_] | None = None,
) -> Split:
    """Hold out a tenth of the contents for validation and a tenth for calibration.

    They are drawn from images about which people wrote located phrases, if there are two; if not,
    from images with generated ones. Images that the matcher to start from was trained on stay in
    training, as long as at least two others can be held out. If some are `named`, all of these, and
    no others, are held out: half for validation, the others for calibration.

    Parameters
    ----------
    examples : Examples
        All of them.
    groups : int64 array of shape (images,)
        From :func:`content_groups`.
    seen : bool array of shape (images,)
        Whether the matcher to start from was trained on the image.
    seed : int
        Seed of the draw.
    named : bool array of shape (images,), optional
        Whether an image must be held out.

    Raises
    ------
    GroundingError
        If no example has a box.
    """
    apart = groups[:0] if named is None else np.unique(groups[named])
    of_example = groups[examples.image]
    possible = np.isin(of_example, apart) if len(apart) else np.ones(len(of_example), bool)
    located = np.unique(of_example[possible & examples.located & ~examples.generated])
    if len(located) < 2:
        located = np.unique(of_example[possible & examples.located])
    if len(located) < 2:
        raise GroundingError(
            f"boxes are known for expressions about {len(located)} different images, and training "
            "needs at least two to validate and calibrate with; add expressions with boxes"
        )
    seen_groups = np.unique(groups[seen])
    order = np.random.default_rng(seed).permutation(located)
    unseen = order[~np.isin(order, seen_groups)]
    half = len(located) // 2
    contents = len(np.unique(of_example))
    count = half if len(apart) else max(1, min(round(_HELD_OUT_SHARE * contents), half))
    if len(unseen) >= 2:
        order, count = unseen, min(count, len(unseen) // 2)
    validation = order[:count]
    calibration = order[count:] if len(apart) else order[count : 2 * count]
    held_out = np.isin(of_example, np.concatenate([validation, calibration, apart]))
    return Split(
        training=examples.take(~held_out),
        validation=examples.take(np.isin(of_example, validation)),
        calibration=examples.take(np.isin(of_example, calibration)),
        reused=int(np.isin(np.concatenate([validation, calibration]), seen_groups).sum()),
    )
