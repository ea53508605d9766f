"""The regions of one image with their embeddings, as matchers see them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..core.colors import region_colors
from ..core.region_table import RegionTable
from ..core.regions import Regions
from .checks import embed_labels, encode_regions
from .encoder import Encoder

__all__ = ["embedded_regions"]


def embedded_regions(encoder: Encoder, image: Image.Image, regions: Regions) -> RegionTable:
    """Return the regions of an image as a table, embedded with their labels and colors.

    Parameters
    ----------
    encoder : Encoder
        Embeds regions and labels.
    image : PIL image
        Mode RGB, upright.
    regions : Regions
        Of this image; the first is the whole image.
    """
    names = sorted(set(regions.labels))
    return RegionTable(
        encode_regions(encoder, [image], [regions]),
        regions.boxes,
        regions.scores,
        np.array([names.index(label) for label in regions.labels]),
        region_colors(image, regions.boxes),
        np.array([0, len(regions)]),
        names,
        embed_labels(encoder, names),
    )
