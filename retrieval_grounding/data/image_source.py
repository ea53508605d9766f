"""What may stand for an image: an address, bytes, an open file, a picture or an array."""

from __future__ import annotations

import hashlib
import os
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from PIL import Image

from ..core.addresses import absolute_address, content_address
from ..core.errors import ImageError
from ..core.types import PathLike
from .reading import MAX_BYTES, read_address

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["ImageSource", "address_of", "hash_content", "hash_pixels", "read_source"]


ImageSource: TypeAlias = (
    "PathLike | bytes | bytearray | memoryview | IO[bytes] | Image.Image | npt.NDArray[Any]"
)
"""A path, a URL, the bytes of a file, a file opened for reading bytes, or pixels.

Arrays are uint8 of shape (h, w), (h, w, 3) in the order RGB, or (h, w, 4) with transparency.
"""

_SHAPES = "an array of an image is uint8 of shape (h, w), (h, w, 3) or (h, w, 4), in the order RGB"


def read_source(source: ImageSource) -> bytes | Image.Image:
    """Return the bytes of an image file, or pixels that are given as such.

    Raises
    ------
    ImageError
        As for :func:`retrieval_grounding.data.reading.read_address`, and ``not-an-image`` for
        something else.
    """
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, (str, os.PathLike)):
        return read_address(absolute_address(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _limited(bytes(source))
    if hasattr(source, "__array_interface__"):
        return _from_array(source)
    if hasattr(source, "read"):
        return _read_file(source)
    raise ImageError(
        "not-an-image",
        f"a {type(source).__name__} is no image; pass a path, a URL, bytes, a file that is opened "
        "for reading bytes, a PIL image or a NumPy array",
    )


def address_of(source: ImageSource, content_hash: str) -> str:
    """Return the address of an image: its path or URL, else what names its content."""
    if isinstance(source, (str, os.PathLike)):
        return absolute_address(source)
    return content_address(content_hash)


def hash_content(data: bytes) -> str:
    """Return the hash that identifies content in an index: BLAKE2b-128, hexadecimal."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def hash_pixels(image: Image.Image) -> str:
    """Return the content hash of an image that is given as pixels, which never is that of a file.

    Parameters
    ----------
    image : PIL.Image.Image
        Upright, RGB.
    """
    digest = hashlib.blake2b(digest_size=16, person=b"rg pixels")
    digest.update(f"{image.width} {image.height} ".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def _limited(data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise ImageError("too-large", f"there are more than {MAX_BYTES:,} bytes")
    return data


def _read_file(file: Any) -> bytes:
    try:
        data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: closed
        raise ImageError("unreadable", f"the file cannot be read: {error}") from error
    if not isinstance(data, bytes):
        raise ImageError("not-an-image", "the file is opened for reading text; open it with 'rb'")
    return _limited(data)


def _from_array(array: Any) -> Image.Image:
    import numpy as np

    pixels = np.asarray(array)
    channels = pixels.shape[2:] if pixels.ndim == 3 else (1,)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or channels[0] not in (1, 3, 4):
        shape = f"this is {pixels.dtype} of shape {pixels.shape}"
        raise ImageError("not-an-image", f"{_SHAPES}; {shape}")
    if not pixels.size:
        raise ImageError("empty", "the array has no pixels")
    if channels == (1,):
        pixels = pixels.reshape(pixels.shape[:2])
    return Image.fromarray(np.ascontiguousarray(pixels))
