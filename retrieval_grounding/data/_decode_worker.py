"""The process that decodes image files, so that a decoder that dies takes nothing else along.

It reads the length of a file (8 bytes, little-endian) and the file from stdin, and answers on
stdout with the pixels as a PPM image, or with a line of JSON that says why there are none; then it
waits for the next. It ends with its stdin, hence also when the process that started it is killed.

:mod:`retrieval_grounding.data.decode_pool` starts it. Only light modules are imported here.
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
"""The first line on stdout: what dies before it does not die of an image."""

_BUFFER_BYTES = 1 << 16
_BADNESS = "500"  # as if it had half of the machine's memory


def main(patience: float) -> None:
    """Decode until stdin ends; a file that takes more than `patience` seconds ends the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that builds
    files = os.fdopen(0, "rb", _BUFFER_BYTES)
    answers = os.fdopen(os.dup(1), "wb", _BUFFER_BYTES)
    os.dup2(2, 1)  # what a library prints must not come among the pixels
    with contextlib.suppress(OSError):  # Linux: when memory runs out, the models are spared
        Path("/proc/self/oom_score_adj").write_text(_BADNESS, encoding="ascii")
    with Path(os.devnull).open("wb") as nowhere, contextlib.suppress(OSError):  # nobody listens
        _send(answers, READY)
        for standard in (1, 2):  # C libraries complain there; every reason is told by its name
            os.dup2(nowhere.fileno(), standard)
        while (data := _receive(files)) is not None:
            # A thread in C: it cannot be held up, and works when nobody is left to watch.
            faulthandler.dump_traceback_later(patience, exit=True, file=nowhere)
            try:
                image = decode_image(data)
            except ImageError as error:
                faulthandler.cancel_dump_traceback_later()
                told = {"reason": error.reason, "detail": error.detail}
                _send(answers, json.dumps(told).encode() + b"\n")
            else:
                faulthandler.cancel_dump_traceback_later()
                image.save(answers, "PPM")


def _receive(files: IO[bytes]) -> bytes | None:
    """Return the next file, or None at the end."""
    header = files.read(8)
    length = int.from_bytes(header, "little")
    data = files.read(length)
    return data if len(header) == 8 and len(data) == length else None


def _send(answers: IO[bytes], line: bytes) -> None:
    answers.write(line)
    answers.flush()
