"""Computing the image pass of the residual network, as it is kept."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ..core.region_table import RegionTable
from .batch import ImageBatch, RegionTensors
from .grouping import group_images
from .image_pass import PLACES, ImagePass
from .noun_ranks import order_values
from .residual_model import EncodedImages, ResidualModel

__all__ = ["encode_pass"]


_MOST_REGIONS = np.iinfo(np.uint16).max


@torch.inference_mode()
def encode_pass(model: ResidualModel, regions: RegionTable) -> ImagePass | None:
    """Return the image pass of all regions of a table.

    None if it cannot be kept: units are beyond float16, or an image has too many regions.
    """
    counts = np.diff(regions.offsets)
    if counts.max() > _MOST_REGIONS:
        return None
    tensors = RegionTensors(regions, next(model.parameters()).device)
    count, width = len(regions), model.width
    units = np.empty((count, 2 * width), np.float16)
    places = np.empty((count, PLACES), np.uint16)
    counted = np.empty(count, np.float32)
    duplicates: list[npt.NDArray[np.uint16]] = [np.zeros(0, np.uint16)] * len(counts)
    copies = np.empty(count, np.int64)
    for group in group_images(counts):
        images = tensors.batch(torch.from_numpy(group))
        encoded = model.encode_images(images)
        assert encoded.bilinear is not None  # networks without embeddings have no early exit
        present, rows = images.present, regions.rows(group)
        both = torch.cat([encoded.regions, encoded.bilinear], -1)[present]
        with np.errstate(over="ignore"):  # checked below
            units[rows] = both.cpu().numpy().astype(np.float16)
        places[rows] = _places(images)[present].cpu().numpy()
        counted[rows] = encoded.counted[present].cpu().numpy()
        same = _same_thing(images, encoded)
        copies[rows] = same.sum(2)[present.cpu().numpy()]
        for number, image in enumerate(group.tolist()):
            duplicates[image] = np.nonzero(same[number])[1].astype(np.uint16)
    if not np.isfinite(units).all():
        return None
    return ImagePass(units, places, counted, np.concatenate(duplicates), np.cumsum(copies))


def _places(images: ImageBatch) -> torch.Tensor:
    """Return :attr:`ImagePass.places`, int64 (m, n, PLACES)."""
    values = order_values(images).movedim(1, -1)  # (m, n, ORDERS)
    known = images.present[:, None, :, None]
    own, other = values[:, :, None], values[:, None]
    before = ((other < own) & known).sum(2)
    upto = ((other <= own) & known).sum(2)
    last = values.masked_fill(~images.present[..., None], torch.inf)
    return torch.cat([last.argsort(dim=1, stable=True), before, upto], -1)


def _same_thing(images: ImageBatch, encoded: EncodedImages) -> npt.NDArray[np.bool_]:
    """Return which pairs of regions are one thing, (m, n, n)."""
    present = images.present
    same = (encoded.orders[:, 0] == 0) & present[:, :, None] & present[:, None]
    found: npt.NDArray[np.bool_] = same.cpu().numpy()
    return found
