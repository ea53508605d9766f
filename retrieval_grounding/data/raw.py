"""Camera raw files, through the preview that the camera has put into them, with LibRaw (rawpy).

What the sensor saw is not developed: the preview is what the camera's own screen shows, usually in
full size, and takes a hundredth of the time.
"""

from __future__ import annotations

import io

from PIL import Image

from ..core.errors import ImageError

__all__ = ["is_raw", "raw_exif", "raw_preview"]


_SIGNATURES = {
    0: (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"\0MRM", b"FOVb"),
    4: (b"ftypcrx ",),
    6: (b"HEAPCCDR",),
    8: (b"CR\2",),
}
_TIFF = (b"II*\0", b"MM\0*")
_SUBFILE, _PHOTOMETRIC, _MAKE, _SUB_IFDS, _DNG_VERSION = 254, 262, 271, 330, 50706
_REDUCED = 1
_OF_A_SENSOR = (32803, 34892)  # a color filter array, and linear raw


def is_raw(data: bytes) -> bool:
    r"""Return whether a file is camera raw, by its content; names such as ``.tif`` may be wrong.

    Many are TIFF files: a photograph in a reduced size, and what the sensor saw in a part of it.

    Examples
    --------
    >>> is_raw(b"FUJIFILMCCD-RAW 0201FF"), is_raw(b"\xff\xd8\xff\xe0\0\x10JFIF")
    (True, False)
    """
    for place, signatures in _SIGNATURES.items():
        if data.startswith(signatures, place):
            return True
    tags = raw_exif(data)
    if _DNG_VERSION in tags or tags.get(_PHOTOMETRIC) in _OF_A_SENSOR:
        return True
    return tags.get(_SUBFILE) == _REDUCED and _MAKE in tags and _SUB_IFDS in tags


def raw_exif(data: bytes) -> Image.Exif:
    """Return the tags of a file that is TIFF; empty for others, and if they are damaged."""
    exif = Image.Exif()
    if data.startswith(_TIFF):
        try:
            exif.load(data)
        except Exception:  # Pillow raises almost any error here, and says so when it opens the file
            return Image.Exif()
    return exif


def raw_preview(data: bytes) -> bytes:
    """Return the largest preview in a raw file, as the bytes of an image file.

    LibRaw gives JPEGs an EXIF with orientation, date and camera if they have none.

    Raises
    ------
    ImageError
        With the reason ``raw-not-supported`` if LibRaw does not know the camera, or there is no
        preview, ``out-of-memory``, and ``corrupt`` if the file is damaged.
    """
    import numpy as np  # imported for the first such image
    import rawpy

    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            preview = raw.extract_thumb()
    except (
        rawpy.LibRawNoThumbnailError,
        rawpy.LibRawUnsupportedThumbnailError,
        rawpy.LibRawFileUnsupportedError,
    ) as error:
        raise ImageError("raw-not-supported", "it has no preview; export it as JPEG") from error
    except (rawpy.LibRawTooBigError, rawpy.LibRawUnsufficientMemoryError) as error:
        raise ImageError("out-of-memory", "its preview does not fit into memory") from error
    except rawpy.LibRawError as error:
        raise ImageError("corrupt", f"LibRaw: {_text(error)}") from error
    if preview.format == rawpy.ThumbFormat.JPEG:
        return bytes(preview.data)
    file = io.BytesIO()
    Image.fromarray(np.asarray(preview.data)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _text(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
