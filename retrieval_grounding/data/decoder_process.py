"""The process that decodes image files, so that a crash of a decoder loses one image only.

For each image, the process reads the length of the file (8 bytes, little-endian) and the file from
stdin, and answers on stdout with lines of JSON:

1. ``{"need": bytes, "pixels": number}``, how much memory decoding takes. It goes on when it reads
   the byte ``y``; otherwise it forgets the file.
2. ``{"notes": [[reason, detail], …], "photo": [taken, camera, gps, looks]}``, followed by the
   pixels as a PPM image.

In place of either line, ``{"reason": …, "detail": …}`` tells why the file cannot be used. The
process ends when stdin is closed, so also when the process that started it is killed.

:mod:`retrieval_grounding.data.decoder` starts it, and ends it if it takes too long. Import only
light modules here: the process starts for every build.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import IO, Any

from ..core.errors import ImageError
from .heif import is_heif
from .images import decode_with_notes, load_plugins
from .limits import Limits
from .photo import perceptual_hash

__all__ = ["READY", "YES", "main"]


READY = b"ready\n"
"""The first line on stdout; a process that ends before it was not killed by an image."""

YES = b"y"

_BUFFER_BYTES = 1 << 16
_MAX_DETAIL = 1000


class _ForgottenError(ImageError):
    """The file shall not be decoded."""


def main(timeout: float) -> None:
    """Decode until stdin ends; the system ends it after `timeout` seconds of work for one file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the building process handles Ctrl-C
    files = os.fdopen(0, "rb", _BUFFER_BYTES)
    results = os.fdopen(os.dup(1), "wb", _BUFFER_BYTES)
    os.dup2(2, 1)  # keeps what libraries print out of the pixels
    load_plugins()
    if (avif := sys.modules.get("PIL.AvifImagePlugin")) is not None:
        vars(avif)["DEFAULT_MAX_THREADS"] = 1  # other processes use the other cores
    limits = Limits(timeout)
    # OSError: the building process is gone, so no one reads the results.
    with Path(os.devnull).open("wb") as null, contextlib.suppress(OSError):
        results.write(READY)
        results.flush()
        for descriptor in (1, 2):  # silences C libraries; errors are reported as results
            os.dup2(null.fileno(), descriptor)
        while (data := _read_file(files)) is not None:
            limits.start(len(data), threads=is_heif(data))
            _decode(data, files, results, limits)
            limits.stop()


def _decode(data: bytes, files: IO[bytes], results: IO[bytes], limits: Limits) -> None:
    def allow(need: int, pixels: int) -> None:
        _write(results, {"need": need, "pixels": pixels})
        limits.stop()  # there may be no memory for now
        if files.read(1) != YES:
            raise _ForgottenError("too-large", "there is not enough memory")
        limits.start(need, threads=is_heif(data))

    try:
        image, notes, photo = decode_with_notes(data, allow)
    except _ForgottenError:
        return
    except ImageError as error:
        _write(results, {"reason": error.reason, "detail": error.detail[:_MAX_DETAIL]})
        return
    _write(results, {"notes": notes, "photo": photo._replace(looks=perceptual_hash(image))})
    image.save(results, "PPM")


def _read_file(files: IO[bytes]) -> bytes | None:
    """Return the next file, or None at the end."""
    header = files.read(8)
    length = int.from_bytes(header, "little")
    data = files.read(length)
    return data if len(header) == 8 and len(data) == length else None


def _write(results: IO[bytes], values: dict[str, Any]) -> None:
    results.write(json.dumps(values).encode() + b"\n")
    results.flush()
