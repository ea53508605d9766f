"""Decoding in a separate process: an image that crashes or blocks it affects no other image."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.spawn import get_executable
from pathlib import Path
from typing import IO

from PIL import Image

from ..core.errors import GroundingError, ImageError
from .decoder_process import READY
from .images import MAX_PIXELS

__all__ = ["Decoder"]


_LOGGER = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 60.0
_MAX_STARTS = 3
_MAX_KEPT_BYTES = 1 << 26

# Unlike multiprocessing, this imports neither the user's script nor the site module.
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from retrieval_grounding.data.decoder_process import main; main(float(sys.argv[1]))"
)


class Decoder:
    """Decodes files one at a time in a process that starts with the first file.

    If the process dies, a new one is started for the next file. The process creates no files, and
    ends when this process is killed.

    Parameters
    ----------
    timeout : float
        Seconds that decoding one file may take.
    """

    def __init__(self, timeout: float = _TIMEOUT_SECONDS) -> None:
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = bytearray()
        self._stopped = False
        self._lock = threading.Lock()  # held while the process is started or stopped

    def decode(self, data: bytes) -> Image.Image:
        """Decode an image; see :func:`retrieval_grounding.data.images.decode_image`.

        Raises
        ------
        ImageError
            Also with the reasons ``decoder-died`` and ``decoder-stuck``.
        GroundingError
            If the process cannot be started.
        """
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        started = time.monotonic()
        try:
            self._process.stdin.write(len(data).to_bytes(8, "little"))
            self._process.stdin.write(data)
            self._process.stdin.flush()
            return self._read_result(self._process.stdout)
        except MemoryError as error:
            self._release()
            raise ImageError("out-of-memory", "the pixels do not fit into memory") from error
        except (OSError, EOFError, ValueError) as error:
            stuck = time.monotonic() - started >= self._timeout
            ending = _describe_status(self._release())
            if stuck:
                detail = f"decoding it took more than {self._timeout:g} s"
                failure = ImageError("decoder-stuck", detail)
            else:
                failure = ImageError("decoder-died", ending)
            if not self._stopped:
                _LOGGER.warning("%s; a new process decodes the next image", failure)
            raise failure from error

    def stop(self) -> None:
        """Kill the process, from any thread; decoding the current file fails."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """Kill the process and release its resources; no file may be in progress."""
        self.stop()
        self._release()

    def _start(self) -> None:
        self._release()
        package = str(Path(__file__).parents[2])  # may be missing in sys.path if editable
        path = [*(folder for folder in sys.path if isinstance(folder, str)), package]
        program = [get_executable(), "-S", "-W", "ignore", "-c", _PROGRAM, str(self._timeout)]
        for _ in range(_MAX_STARTS):
            with self._lock:
                if self._stopped:
                    raise ImageError("decoder-died", "the build was stopped")
                try:
                    self._process = subprocess.Popen(
                        [*program, *path],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        start_new_session=True,  # keeps Ctrl-C in a terminal away from it
                    )
                except OSError as error:
                    raise GroundingError(
                        f"cannot start a process to decode images ({error.strerror or error}); "
                        "everything committed so far is safe, so fix that and build again"
                    ) from error
            assert self._process.stdout is not None
            if self._process.stdout.readline() == READY:
                return
            ending = _describe_status(self._release())
        raise GroundingError(
            f"cannot decode images, because {ending} while starting; see its output on stderr for "
            "the reason"
        )

    def _read_result(self, results: IO[bytes]) -> Image.Image:
        """Read a PPM image, or raise the failure that the process reports."""
        first = results.readline()
        if not first:
            raise EOFError
        if first != b"P6\n":
            failure = json.loads(first)
            raise ImageError(str(failure["reason"]), str(failure["detail"]))
        width, height = map(int, results.readline().split())
        if not 0 < width * height <= MAX_PIXELS:
            raise ValueError(f"{width} × {height} pixels")
        results.readline()  # the largest value, 255
        size = 3 * width * height
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        with memoryview(self._buffer)[:size] as pixels:
            if results.readinto(pixels) != size:  # type: ignore[attr-defined]
                raise EOFError
            image = Image.new("RGB", (width, height), None)
            image.frombytes(pixels)
        if size > _MAX_KEPT_BYTES:
            self._buffer = bytearray()
        return image

    def _release(self) -> int:
        """End the process, close its pipes, and return its exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        try:
            process.wait(1.0)  # keeps the status of a process that is already ending
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # unread bytes in the pipe
                assert pipe is not None
                pipe.close()
        return process.returncode


def _describe_status(status: int) -> str:
    """Return how a process ended, as text."""
    if status >= 0:
        return f"its process ended with status {status}"
    known = {number.value: number.name for number in signal.Signals}
    return f"its process was killed by {known.get(-status, f'signal {-status}')}"
