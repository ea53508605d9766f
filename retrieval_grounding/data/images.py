"""Decoding image files safely, with the pixels that a viewer shows."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import io
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageFile, UnidentifiedImageError

from ..core.errors import GroundingError, ImageError
from ..core.photo import Photo
from ..core.types import PathLike
from .damage import ImageNote, load_pixels
from .depth import scale_transparency, stored_mode, with_real_range
from .jpeg import JpegData
from .memory import decoding_bytes
from .photo import read_exif
from .pixels import to_rgb, turn

__all__ = [
    "MAX_PIXELS",
    "TRANSIENT_REASONS",
    "DecodedImage",
    "decode_image",
    "decode_with_notes",
    "hash_content",
    "load_image",
    "load_plugins",
]


MAX_PIXELS = 178_956_970
"""Images with more pixels are refused as ``too-large`` before decoding (Pillow's own limit)."""

MAX_BYTES = 1 << 29
"""Files with more bytes are refused as ``too-large`` before reading."""

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


def load_image(path: PathLike, content_hash: str | None = None) -> Image.Image:
    """Read and decode one image file; see :func:`decode_image`.

    Parameters
    ----------
    path : path
        The file.
    content_hash : str, optional
        Decode the file only if its :func:`hash_content` is this. Paths in an index from someone
        else cannot be trusted; the hash restricts them to files whose content was indexed.

    Raises
    ------
    ImageError
        Also with the reasons ``missing``, ``not-a-file``, ``unreadable`` and ``changed``.
    """
    data = read_image_bytes(path)
    if content_hash is not None and hash_content(data) != content_hash:
        raise ImageError("changed", f"{os.fspath(path)} is no longer the file that was indexed")
    return decode_image(data)


def hash_content(data: bytes) -> str:
    """Return the hash that identifies content in an index: BLAKE2b-128, hexadecimal."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def read_image_bytes(path: PathLike) -> bytes:
    """Return the bytes of an image file, or raise :class:`ImageError` with a reason."""
    file = Path(path)
    try:
        if file.is_dir() or (file.exists() and not file.is_file()):
            raise ImageError("not-a-file", f"{file} is not a regular file")
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise ImageError("too-large", f"the file has {size:,} bytes, more than {MAX_BYTES:,}")
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError("missing", f"{file} does not exist") from error
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):  # not the fault of this file
            raise GroundingError(
                f"{file} cannot be read, because too many files are open; raise the limit with "
                "'ulimit -n' or close other programs"
            ) from error
        raise ImageError("unreadable", f"{file} cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise ImageError("out-of-memory", f"{file} does not fit into memory") from error


def decode_image(data: bytes) -> Image.Image:
    """Decode an image into upright 8-bit sRGB, with the pixels that a viewer shows.

    The EXIF orientation and ICC profiles are applied. CMYK, palette, grayscale, 16-bit and 32-bit
    images are converted, transparent pixels are blended with white, and animations yield their
    first frame.

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
        With reason ``empty``, ``not-an-image``, ``too-large``, ``truncated``, ``corrupt`` or
        ``out-of-memory``.
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
        return _decode(data, allow)
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
        method, photo = turn(image), read_exif(image)
        full, guess = with_real_range(image, stored, lambda: _open(io.BytesIO(data)))
        rgb, guess = (to_rgb(full)[0], guess) if guess else to_rgb(full)
    if guess is not None:
        notes.append(ImageNote("guessed-range", guess))
    upright = rgb if method is None else rgb.transpose(method)
    return DecodedImage(upright, tuple(notes), photo)


def _open(file: io.BytesIO) -> ImageFile.ImageFile:
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
