"""Finding image files, and decoding them safely into the frame that a viewer shows."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import importlib
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, UnidentifiedImageError

from .errors import GroundingError, ImageError, SourceError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "TRANSIENT_REASONS",
    "as_list",
    "decode_image",
    "find_images",
    "hash_content",
    "load_image",
    "source_folders",
]

PathLike = str | os.PathLike[str]

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2")
)
"""Suffixes (lower case) by which files are picked from a folder."""

MAX_PIXELS = 178_956_970
"""Larger images are refused as ``too-large`` before a pixel is decoded (Pillow's own limit)."""

MAX_BYTES = 1 << 29
"""Larger files are refused as ``too-large`` before they are read."""

TRANSIENT_REASONS = frozenset(
    ("missing", "unreadable", "out-of-memory", "decoder-died", "decoder-stuck")
)
"""Reasons that say nothing about what is in a file: it may be usable the next time."""

# EPS, PDF, WMF and the like start other programs or draw instead of decoding: never opened.
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


def as_list(paths: PathLike | Iterable[PathLike]) -> list[PathLike]:
    """Return one path, or several, as a list."""
    return [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)


def find_images(sources: PathLike | Iterable[PathLike]) -> list[str]:
    """Return the absolute paths of all image files that `sources` name, each once.

    Parameters
    ----------
    sources : path or iterable of paths
        Folders (searched recursively by :data:`IMAGE_SUFFIXES`, hidden files and folders left
        out, symbolic links to folders not followed), image files of any suffix, glob patterns,
        and ``.txt`` files with one path a line, relative to the list's own folder.

    Returns
    -------
    list of str
        In the order of the sources, sorted within a folder or pattern.

    Raises
    ------
    SourceError
        If a source does not exist, or no image is found at all.
    """
    found: dict[str, None] = {}
    for source in as_list(sources):
        found |= dict.fromkeys(_expand(os.fspath(source)))
    if not found:
        raise SourceError(
            "no image was found; name a folder that holds files such as "
            f"{', '.join(sorted(IMAGE_SUFFIXES)[:6])} …"
        )
    return list(found)


def source_folders(sources: PathLike | Iterable[PathLike]) -> list[str]:
    """Return the absolute folders that `sources` name; of a pattern, the folder before it.

    A file of an index that lies in one of them and cannot be found there has been deleted. Of
    other files that is not known: their drive may only be unplugged.
    """
    folders = []
    for source in as_list(sources):
        path = Path(source)
        while glob.has_magic(str(path)) and not path.exists():
            path = path.parent
        if path.is_dir():
            folders.append(os.path.abspath(path))  # noqa: PTH100 - links must not be resolved
    return folders


def load_image(path: PathLike, content_hash: str | None = None) -> Image.Image:
    """Read and decode one image file; see :func:`decode_image`.

    Parameters
    ----------
    path : path
        The file.
    content_hash : str, optional
        Decode the file only if this is its :func:`hash_content`. A path that comes from an index
        is worth no more than whoever wrote the index; with the hash, it can only name a file whose
        content is known there.

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
    """Return the hash by which an index knows the content of a file: BLAKE2b-128, hexadecimal."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def read_image_bytes(path: PathLike) -> bytes:
    """Return the bytes of an image file, or raise :class:`ImageError` by named reason."""
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
        if error.errno in (errno.EMFILE, errno.ENFILE):  # says nothing about this file
            raise GroundingError(
                f"{file} cannot be read, since too many files are open; raise the limit with "
                "'ulimit -n' or close other programs"
            ) from error
        raise ImageError("unreadable", f"{file} cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise ImageError("out-of-memory", f"{file} does not fit into memory") from error


def decode_image(data: bytes) -> Image.Image:
    """Decode an image into upright 8-bit RGB, the frame and the pixels that a viewer shows.

    The EXIF orientation is applied. CMYK, palette, grey and 16-bit images are converted,
    transparency is laid on white, and of an animation the first frame is taken.

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
        raise ImageError("not-an-image", "the bytes are no known image format") from error
    except Image.DecompressionBombError as error:
        raise ImageError("too-large", f"more than {MAX_PIXELS:,} pixels") from error
    except MemoryError as error:
        raise ImageError("out-of-memory", "the pixels do not fit into memory") from error
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged bytes
        reason = "truncated" if "truncated" in str(error).lower() else "corrupt"
        raise ImageError(reason, str(error) or type(error).__name__) from error


@cache
def _formats() -> tuple[str, ...]:
    for plugin in dict.fromkeys(_PLUGINS.values()):  # Image.init() would take twice as long
        with contextlib.suppress(ImportError):  # AVIF, in some versions of Pillow
            importlib.import_module(f"PIL.{plugin}ImagePlugin")
    return tuple(name for name in _PLUGINS if name in Image.OPEN)


def _pillow_open() -> Callable[..., Any]:
    """Return Pillow's own ``open``: ultralytics replaces it by one that installs packages."""
    patches = sys.modules.get("ultralytics.utils.patches")
    return getattr(patches, "_image_open", Image.open)


def _claims(width: int, height: int) -> str:
    return f"the image claims {width} × {height} pixels, more than {MAX_PIXELS:,}"


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # damaged EXIF says nothing about rotation; viewers show the image as stored
        return image
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image.transpose(method) if method is not None else image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image.copy() if isinstance(image.readonly, int) and image.readonly else image
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_to_8_bit(image)).convert("RGB")
    if "A" in image.mode or "transparency" in image.info:
        layer = image.convert("RGBA")
        canvas = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(canvas, layer).convert("RGB")
    return image.convert("RGB")


def _to_8_bit(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Scale grey values of more than 8 bits as viewers do: 16-bit by 256, floats by their range."""
    import numpy as np  # most images do without, and every process that decodes starts sooner

    values = np.asarray(image)
    if values.dtype.kind == "f":
        finite = np.where(np.isfinite(values), values, 0.0)
        low, high = float(finite.min()), float(finite.max())
        scaled = (finite - low) * (255.0 / (high - low)) if high > low else np.zeros_like(finite)
        return np.rint(scaled).astype(np.uint8)
    deep = values.dtype == np.uint16 or int(values.max(initial=0)) > 255
    return ((values >> 8) if deep else values).clip(0, 255).astype(np.uint8)


def _expand(source: str) -> Iterator[str]:
    """Yield absolute paths; links are not resolved."""
    path = Path(source)
    if path.is_dir():
        yield from _walk(os.path.abspath(source))  # noqa: PTH100
    elif path.suffix.lower() == ".txt" and path.is_file():
        yield from map(os.path.abspath, _read_list(path))
    elif path.exists():
        yield os.path.abspath(source)  # noqa: PTH100
    elif glob.has_magic(source):
        matches = sorted(glob.glob(source, recursive=True))  # noqa: PTH207 - absolute patterns
        if not matches:
            raise SourceError(f"no file matches the pattern {source!r}")
        for match in matches:
            if Path(match).is_file() and Path(match).suffix.lower() in IMAGE_SUFFIXES:
                yield os.path.abspath(match)  # noqa: PTH100
    else:
        raise SourceError(f"{source!r} does not exist; name a folder, an image or a list of paths")


def _walk(folder: str) -> Iterator[str]:
    for parent, folders, files in os.walk(folder, onerror=_raise_source_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        prefix = os.path.join(parent, "")  # noqa: PTH118
        for name in sorted(files):  # plain strings: collections have 100,000 files and more
            suffix = name[name.rfind(".") :].lower()
            if suffix in IMAGE_SUFFIXES and name[0] != ".":
                yield prefix + name


def _raise_source_error(error: OSError) -> None:
    raise SourceError(f"folder {error.filename!r} cannot be read: {error.strerror}") from error


def _read_list(path: Path) -> Sequence[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"the list {str(path)!r} cannot be read: {error}") from error
    return [str(path.parent / line.strip()) for line in lines if line.strip()]
