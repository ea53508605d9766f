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
from typing import TYPE_CHECKING, Any

from PIL import Image, UnidentifiedImageError

from ..core.errors import GroundingError, ImageError
from ..core.types import PathLike

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["MAX_PIXELS", "TRANSIENT_REASONS", "decode_image", "hash_content", "load_image"]


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

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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
    """Decode an image into upright 8-bit RGB, with the pixels that a viewer shows.

    The EXIF orientation is applied. CMYK, palette, grayscale and 16-bit images are converted,
    transparent pixels are blended with white, and animations yield their first frame.

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
    if not data:
        raise ImageError("empty", "the file has no bytes")
    try:
        with _pillow_open()(io.BytesIO(data), formats=_formats()) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError("too-large", _claims(width, height))
            image.load()
            return _to_rgb(_upright(image))
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


@cache
def _formats() -> tuple[str, ...]:
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


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # damaged EXIF; viewers then show the image as stored
        return image
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image.transpose(method) if method is not None else image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image.copy() if image.readonly else image
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_to_8_bit(image)).convert("RGB")
    if "A" in image.mode or "transparency" in image.info:
        layer = image.convert("RGBA")
        canvas = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(canvas, layer).convert("RGB")
    return image.convert("RGB")


def _to_8_bit(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Scale gray values of more than 8 bits as viewers do: 16-bit by 256, floats by their range."""
    import numpy as np  # most images do not need it, and decoding processes start faster

    values = np.asarray(image)
    if values.dtype.kind == "f":
        finite = np.where(np.isfinite(values), values, 0.0)
        low, high = float(finite.min()), float(finite.max())
        scaled = (finite - low) * (255.0 / (high - low)) if high > low else np.zeros_like(finite)
        return np.rint(scaled).astype(np.uint8)
    deep = values.dtype == np.uint16 or int(values.max(initial=0)) > 255
    return ((values >> 8) if deep else values).clip(0, 255).astype(np.uint8)
