"""Decoding image files safely, with the pixels that a viewer shows."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from PIL import Image, ImageFile, UnidentifiedImageError

from ..core.errors import ImageError
from ..core.photo import Photo
from .damage import ImageNote, load_pixels
from .depth import scale_transparency, stored_mode, with_real_range
from .heif import is_heif, open_heif
from .image_source import ImageSource, hash_content, hash_pixels, read_source
from .jpeg import JpegData
from .memory import decoding_bytes
from .photo import described_by, read_exif
from .pixels import to_rgb, turn
from .raw import is_raw, raw_exif, raw_preview

__all__ = [
    "MAX_PIXELS",
    "TRANSIENT_REASONS",
    "DecodedImage",
    "as_shown",
    "decode_image",
    "decode_with_notes",
    "load_image",
    "load_plugins",
    "load_with_hash",
]


MAX_PIXELS = 178_956_970
"""Images with more pixels are refused as ``too-large`` before decoding (Pillow's own limit)."""

TRANSIENT_REASONS = frozenset(
    ("missing", "unreadable", "out-of-memory", "decoder-died", "decoder-stuck")
)
"""Reasons that do not depend on the content of a file, so it may be usable the next time."""

# Never EPS, PDF, WMF and similar formats, which start other programs or render.
_PLUGINS = {
    "JPEG": "Jpeg", "MPO": "Mpo", "PNG": "Png", "WEBP": "WebP", "GIF": "Gif", "BMP": "Bmp",
    "DIB": "Bmp", "TIFF": "Tiff", "AVIF": "Avif", "JPEG2000": "Jpeg2K", "PPM": "Ppm",
}  # fmt: skip


class DecodedImage(NamedTuple):
    """An image, what a decoder guessed or repaired, and what the photograph says about itself."""

    image: Image.Image
    notes: tuple[ImageNote, ...]
    photo: Photo = Photo()


def load_image(image: ImageSource, content_hash: str | None = None) -> Image.Image:
    """Read and decode one image; see :func:`decode_image`.

    Parameters
    ----------
    image : path, bytes, file, PIL image or array
        A path, the address of a member of an archive (``photos.zip/a.jpg``), a URL, the bytes of an
        image file, a file that is opened for reading bytes, a PIL image, or a uint8 array of shape
        (h, w), (h, w, 3) in the order RGB, or (h, w, 4).
    content_hash : str, optional
        Decode the image only if the hash of its content is this. Paths in an index from someone
        else cannot be trusted; the hash restricts them to files whose content was indexed.

    Returns
    -------
    PIL.Image.Image
        Upright, mode ``RGB``.

    Raises
    ------
    ImageError
        Also with the reasons ``missing``, ``not-a-file``, ``unreadable``, ``changed``, and those of
        archives and URLs.

    Examples
    --------
    >>> import numpy as np
    >>> load_image(np.zeros((2, 3, 3), np.uint8)).size
    (3, 2)
    """
    return load_with_hash(image, content_hash)[0]


def load_with_hash(image: ImageSource, content_hash: str | None = None) -> tuple[Image.Image, str]:
    """Load an image as :func:`load_image` does; return it and the hash of its content."""
    read = read_source(image)
    if isinstance(read, bytes):
        found = hash_content(read)
        _check_hash(image, found, content_hash)
        return decode_image(read), found
    pixels = as_shown(read)
    found = hash_pixels(pixels)
    _check_hash(image, found, content_hash)
    return pixels, found


def _check_hash(image: ImageSource, found: str, wanted: str | None) -> None:
    if wanted is not None and found != wanted:
        name = os.fspath(image) if isinstance(image, (str, os.PathLike)) else "this"
        raise ImageError("changed", f"{name} is no longer the file that was indexed")


def as_shown(image: Image.Image) -> Image.Image:
    """Return pixels as :func:`decode_image` returns those of a file, in a new image.

    Raises
    ------
    ImageError
        If there are too many, or the image's own file cannot be decoded.
    """
    if image.width * image.height > MAX_PIXELS:
        raise ImageError("too-large", _claims(*image.size))
    if not image.width * image.height:
        raise ImageError("empty", "the image has no pixels")
    try:
        image.load()
        method = turn(image)
        shown, _ = to_rgb(image)
        shown = shown.copy() if shown is image else shown  # what was given stays as it is
        return shown if method is None else shown.transpose(method)
    except MemoryError as error:
        raise ImageError("out-of-memory", "the pixels do not fit into memory") from error
    except Exception as error:  # Pillow raises almost any error, here and on damaged bytes
        raise ImageError("corrupt", str(error) or type(error).__name__) from error


def decode_image(data: bytes) -> Image.Image:
    """Decode an image into upright 8-bit sRGB, with the pixels that a viewer shows.

    The EXIF orientation and ICC profiles are applied. CMYK, palette, grayscale, 16-bit and 32-bit
    images are converted, transparent pixels are blended with white, animations yield their first
    frame, and camera raw files their preview.

    Parameters
    ----------
    data : bytes
        The whole file.

    Returns
    -------
    PIL.Image.Image
        Mode ``RGB``.

    Raises
    ------
    ImageError
        With reason ``empty``, ``not-an-image``, ``too-large``, ``truncated``, ``corrupt``,
        ``raw-not-supported`` or ``out-of-memory``.
    """
    return decode_with_notes(data).image


def decode_with_notes(data: bytes, allow: Callable[[int, int], None] | None = None) -> DecodedImage:
    """Decode an image as :func:`decode_image` does, and report what was guessed or repaired.

    Parameters
    ----------
    data : bytes
        The whole file.
    allow : callable, optional
        Called before pixels are decoded, with the bytes of memory that this will take and the
        number of pixels; it may raise an error.
    """
    if not data:
        raise ImageError("empty", "the file has no bytes")
    try:
        return _decode_raw(data, allow) if is_raw(data) else _decode(data, allow)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError("not-an-image", "the file is not in a known image format") from error
    except Image.DecompressionBombError as error:
        raise ImageError("too-large", f"more than {MAX_PIXELS:,} pixels") from error
    except MemoryError as error:
        raise ImageError("out-of-memory", "the pixels do not fit into memory") from error
    except Exception as error:  # Pillow's plugins raise almost any error on damaged bytes
        reason = "truncated" if "truncated" in str(error).lower() else "corrupt"
        raise ImageError(reason, str(error) or type(error).__name__) from error


def _decode_raw(data: bytes, allow: Callable[[int, int], None] | None) -> DecodedImage:
    def allow_both(memory: int, pixels: int) -> None:
        if allow is not None:
            allow(memory + len(data), pixels)

    decoded = _decode(raw_preview(data), allow_both)
    said, own = decoded.photo, described_by(raw_exif(data))  # previews seldom know the place
    photo = Photo(own.taken or said.taken, own.camera or said.camera, own.gps or said.gps)
    return decoded._replace(photo=photo)


def _decode(data: bytes, allow: Callable[[int, int], None] | None) -> DecodedImage:
    file = io.BytesIO(data)
    with _open(file) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ImageError("too-large", _claims(width, height))
        jpeg = JpegData(data) if image.format in ("JPEG", "MPO") else None
        if allow is not None:
            allow(decoding_bytes(image, data, jpeg), width * height)
        stored = stored_mode(image)
        scale_transparency(image, stored)
        notes = load_pixels(image, file, jpeg)
        if image.size != (width, height):
            raise ImageError("corrupt", f"the header claims {width} × {height} pixels")
        method, photo = turn(image), read_exif(image)
        full, guess = with_real_range(image, stored, lambda: _open(io.BytesIO(data)))
        rgb, guess = (to_rgb(full)[0], guess) if guess else to_rgb(full)
    if guess is not None:
        notes.append(ImageNote("guessed-range", guess))
    upright = rgb if method is None else rgb.transpose(method)
    return DecodedImage(upright, tuple(notes), photo)


def _open(file: io.BytesIO) -> ImageFile.ImageFile:
    if is_heif(file.getvalue()):
        return open_heif(file)
    image: ImageFile.ImageFile = _pillow_open()(file, formats=load_plugins())
    return image


@cache
def load_plugins() -> tuple[str, ...]:
    """Import Pillow's plugins for the formats that are opened, and return their names."""
    for plugin in dict.fromkeys(_PLUGINS.values()):  # Image.init() takes twice as long
        with contextlib.suppress(ImportError):  # some versions of Pillow lack AVIF
            importlib.import_module(f"PIL.{plugin}ImagePlugin")
    return tuple(name for name in _PLUGINS if name in Image.OPEN)


def _pillow_open() -> Callable[..., Any]:
    """Return Pillow's own ``open``, which ultralytics replaces by one that installs packages."""
    patches = sys.modules.get("ultralytics.utils.patches")
    return getattr(patches, "_image_open", Image.open)


def _claims(width: int, height: int) -> str:
    return f"the image claims {width} × {height} pixels, more than {MAX_PIXELS:,}"
