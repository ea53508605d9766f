"""The regions of one image with their embeddings, as matchers see them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..core.colors import region_colors
from ..core.region_table import RegionTable
from ..core.regions import Regions
from .checks import embed_labels
from .encoder import Encoder

__all__ = ["embedded_regions"]


def embedded_regions(
    encoder: Encoder,
    image: Image.Image,
    regions: Regions,
    embeddings: npt.NDArray[np.float32],
) -> RegionTable:
    """Return the regions of an image as a table, with embedded labels and with colors.

    Parameters
    ----------
    encoder : Encoder
        Embeds labels.
    image : PIL image
        Mode RGB, upright.
    regions : Regions
        Of this image; the first is the whole image.
    embeddings : float32 array of shape (n, d)
        Theirs, by the same encoder.
    """
    names = sorted(set(regions.labels))
    return RegionTable(
        embeddings,
        regions.boxes,
        regions.scores,
        np.array([names.index(label) for label in regions.labels]),
        region_colors(image, regions.boxes),
        np.array([0, len(regions)]),
        names,
        embed_labels(encoder, names),
    )
