"""HEIC and HEIF, the format of most phones, through pi-heif; Pillow itself does not read it."""

from __future__ import annotations

import io

from PIL import ImageFile

from ..core.errors import ImageError

__all__ = ["is_heif", "open_heif"]


_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 msf1".split())
_AVIF = frozenset(b"avif avis".split())  # also in files whose main brand is mif1 or msf1
_MAX_BRANDS_BYTES = 1 << 10


def is_heif(data: bytes) -> bool:
    r"""Return whether a file is HEIF with HEVC pictures in it, by its first bytes.

    Examples
    --------
    >>> is_heif(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    True
    >>> is_heif(b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif")
    False
    """
    if data[4:8] != b"ftyp" or data[8:12] not in _BRANDS:
        return False
    end = min(int.from_bytes(data[:4], "big"), _MAX_BRANDS_BYTES)
    return not any(data[start : start + 4] in _AVIF for start in range(16, end, 4))


def open_heif(file: io.BytesIO) -> ImageFile.ImageFile:
    """Open a HEIF file as Pillow opens others; its pixels are decoded by ``load``.

    Pillow's own table of formats stays as the program has set it up.

    Raises
    ------
    ImageError
        If the file is damaged, or its codec is not HEVC.
    """
    from pi_heif import options  # imported for the first such image
    from pi_heif.as_plugin import HeifImageFile

    options.DECODE_THREADS = 1  # other images use the other cores
    try:
        image: ImageFile.ImageFile = HeifImageFile(file)
    except SyntaxError as error:
        raise ImageError("corrupt", str(error)) from error
    return image
