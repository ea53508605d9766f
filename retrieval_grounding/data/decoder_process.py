"""The process that decodes image files, so that a crash of a decoder loses one image only.

For each image, the process reads the length of the file (8 bytes, little-endian) and the file from
stdin. It writes the pixels to stdout as a PPM image, or one line of JSON with the reason for a
failure. It ends when stdin is closed, so also when the process that started it is killed.

:mod:`retrieval_grounding.data.decoder` starts it. Import only light modules here: the process
starts for every build.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
from pathlib import Path
from typing import IO

from ..core.errors import ImageError
from .images import decode_image

__all__ = ["READY", "main"]


READY = b"ready\n"
"""The first line on stdout; a process that ends before it was not killed by an image."""

_BUFFER_BYTES = 1 << 16
_OOM_SCORE = "500"  # as if the process used half of the machine's memory


def main(timeout: float) -> None:
    """Decode until stdin ends; a file that takes more than `timeout` seconds ends the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the building process handles Ctrl-C
    files = os.fdopen(0, "rb", _BUFFER_BYTES)
    results = os.fdopen(os.dup(1), "wb", _BUFFER_BYTES)
    os.dup2(2, 1)  # keeps what libraries print out of the pixels
    with contextlib.suppress(OSError):  # on Linux, the first process to kill if memory runs out
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
    # OSError: the building process is gone, so no one reads the results.
    with Path(os.devnull).open("wb") as null, contextlib.suppress(OSError):
        _write_line(results, READY)
        for descriptor in (1, 2):  # silences C libraries; errors are reported as results
            os.dup2(null.fileno(), descriptor)
        while (data := _read_file(files)) is not None:
            # A C thread, which ends the process even if Python hangs.
            faulthandler.dump_traceback_later(timeout, exit=True, file=null)
            try:
                image = decode_image(data)
            except ImageError as error:
                faulthandler.cancel_dump_traceback_later()
                failure = {"reason": error.reason, "detail": error.detail}
                _write_line(results, json.dumps(failure).encode() + b"\n")
            else:
                faulthandler.cancel_dump_traceback_later()
                image.save(results, "PPM")


def _read_file(files: IO[bytes]) -> bytes | None:
    """Return the next file, or None at the end."""
    header = files.read(8)
    length = int.from_bytes(header, "little")
    data = files.read(length)
    return data if len(header) == 8 and len(data) == length else None


def _write_line(results: IO[bytes], line: bytes) -> None:
    results.write(line)
    results.flush()
