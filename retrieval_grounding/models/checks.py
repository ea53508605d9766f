"""Checks of what detectors and encoders return, so that nothing wrong gets into an index.

Models may be anybody's: a fault is raised where it happens and names the model that made it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..core.errors import ModelError
from ..core.groups import label_phrase
from ..core.regions import WHOLE_IMAGE, Regions
from .detector import Detector
from .encoder import Encoder

__all__ = ["detect_regions", "embed_labels", "encode_phrases", "encode_regions"]

_NORM_TOLERANCE = 1e-2  # embeddings are stored in half precision, and models may compute in it


def detect_regions(detector: Detector, images: Sequence[Image.Image]) -> list[Regions]:
    """Return what `detector` finds in each image.

    Raises
    ------
    ModelError
        If it does not return one `Regions` for each image, each with the whole image first and all
        boxes inside the image.
    """
    found = detector.detect(images)
    name = f"the detector {detector.fingerprint!r}"
    if not isinstance(found, (list, tuple)):
        raise ModelError(f"{name} must return a list of Regions, not {type(found).__name__}")
    if len(found) != len(images):
        raise ModelError(f"{name} returned regions of {len(found)} images for {len(images)} images")
    for regions, image in zip(found, images, strict=True):
        if not isinstance(regions, Regions):
            raise ModelError(f"{name} must return Regions, not {type(regions).__name__}")
        if regions.labels[:1] != (WHOLE_IMAGE,) or regions.boxes[0].tolist() != [0, 0, *image.size]:
            raise ModelError(
                f"{name} must return the whole image as region 0; begin with "
                "Regions.whole_image(width, height)"
            )
        outside = (regions.boxes[:, 2:] > np.array(image.size)).any(axis=1)
        if outside.any():
            box = regions.boxes[int(outside.argmax())].tolist()
            raise ModelError(
                f"{name} returned the box {box} for an image of {image.width} × {image.height} "
                "pixels; clip boxes to the image with Regions.clip"
            )
    return list(found)


def encode_regions(
    encoder: Encoder, images: Sequence[Image.Image], regions: Sequence[Regions]
) -> npt.NDArray[np.float32]:
    """Return an embedding of each region of each image, float32 of shape (n, d).

    Raises
    ------
    ModelError
        If `encoder` does not return one finite vector of unit length for each region.
    """
    count = sum(map(len, regions))
    return _checked(encoder.encode_regions(images, regions), count, "regions", encoder)


def encode_phrases(encoder: Encoder, phrases: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return an embedding of each phrase, float32 of shape (n, d).

    Raises
    ------
    ModelError
        If `encoder` does not return one finite vector of unit length for each phrase.
    PhraseError
        If a phrase is empty or not text.
    """
    return _checked(encoder.encode_phrases(phrases), len(phrases), "phrases", encoder)


def embed_labels(encoder: Encoder, names: Sequence[str]) -> npt.NDArray[np.float32]:
    """Embed a detector's class names as phrases, (k, d).

    A group's label is embedded as "group of dogs". The label of whole images and empty names, which
    some data sets have, give zeros.
    """
    embeddings = np.zeros((len(names), encoder.dimension), np.float32)
    named = [row for row, name in enumerate(names) if name != WHOLE_IMAGE and name.strip()]
    if named:
        embeddings[named] = encode_phrases(encoder, [label_phrase(names[row]) for row in named])
    return embeddings


def _checked(found: object, count: int, what: str, encoder: Encoder) -> npt.NDArray[np.float32]:
    name, shape = f"the encoder {encoder.fingerprint.name!r}", (count, encoder.dimension)
    if not isinstance(found, np.ndarray) or found.dtype.kind != "f":
        kind = f"{found.dtype}s" if isinstance(found, np.ndarray) else type(found).__name__
        raise ModelError(f"{name} must return a floating-point array for {what}, not {kind}")
    if found.shape != shape:
        raise ModelError(f"{name} returned the shape {found.shape} for {count} {what}, not {shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(found.astype(np.float32), axis=1)
    wrong = ~(np.abs(norms - 1) <= _NORM_TOLERANCE)  # also where the norm is not a number
    if wrong.any():
        norm = float(norms[int(wrong.argmax())])
        raise ModelError(
            f"{name} returned an embedding of length {norm:.3g} for one of the {what}; "
            "embeddings must be finite and of unit length"
        )
    return found.astype(np.float32, copy=False)
