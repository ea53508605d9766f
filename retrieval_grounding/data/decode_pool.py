"""Decoding in a process of its own: an image that kills or holds up its decoder fails alone."""

from __future__ import annotations

import contextlib
import json
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
from ._decode_worker import READY
from .images import MAX_PIXELS

__all__ = ["Decoder"]


_PATIENCE_SECONDS = 60.0
_STARTS = 3
_KEPT_BYTES = 1 << 26

# Unlike multiprocessing, this imports neither the user's script nor what site-packages start with.
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from retrieval_grounding.data._decode_worker import main; main(float(sys.argv[1]))"
)


class Decoder:
    """Decodes one file after another in a process that is started with the first of them.

    When the process dies, another takes its place. It holds no names in the file system, and ends
    by itself when this process is killed.

    Parameters
    ----------
    patience : float
        Seconds that the decoding of one file may take.
    """

    def __init__(self, patience: float = _PATIENCE_SECONDS) -> None:
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = bytearray()
        self._stopped = False
        self._starting = threading.Lock()

    def decode(self, data: bytes) -> Image.Image:
        """Decode an image; see :func:`retrieval_grounding.data.images.decode_image`.

        Raises
        ------
        ImageError
            Also with reason ``decoder-died`` or ``decoder-stuck``.
        GroundingError
            If no process can be started.
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
            return self._receive(self._process.stdout)
        except MemoryError as error:
            self._end()
            raise ImageError("out-of-memory", "the pixels do not fit into memory") from error
        except (OSError, EOFError, ValueError) as error:
            stuck = time.monotonic() - started >= self._patience
            status = self._end()
            if stuck:
                detail = f"decoding it took more than {self._patience:g} s"
                raise ImageError("decoder-stuck", detail) from error
            raise ImageError("decoder-died", _epitaph(status)) from error

    def stop(self) -> None:
        """Kill the process, from any thread; a file that is being decoded fails."""
        with self._starting:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """Kill the process and release all that belongs to it; no file is being decoded."""
        self.stop()
        self._end()

    def _start(self) -> None:
        self._end()
        package = str(Path(__file__).parents[2])  # an editable install may not have it in sys.path
        path = [*(folder for folder in sys.path if isinstance(folder, str)), package]
        program = [get_executable(), "-S", "-W", "ignore", "-c", _PROGRAM, str(self._patience)]
        for _ in range(_STARTS):
            with self._starting:
                if self._stopped:
                    raise ImageError("decoder-died", "the build was stopped")
                try:
                    self._process = subprocess.Popen(
                        [*program, *path],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        start_new_session=True,  # Ctrl-C in a terminal goes to all of a session
                    )
                except OSError as error:
                    raise GroundingError(
                        "no process could be started to decode images "
                        f"({error.strerror or error}); what was committed is safe"
                    ) from error
            assert self._process.stdout is not None
            if self._process.stdout.readline() == READY:
                return
            status = self._end()
        raise GroundingError(
            f"the processes that decode images end while they start: {_epitaph(status)}, and "
            "what they printed on stderr says why"
        )

    def _receive(self, answers: IO[bytes]) -> Image.Image:
        first = answers.readline()
        if not first:
            raise EOFError
        if first != b"P6\n":
            told = json.loads(first)
            raise ImageError(str(told["reason"]), str(told["detail"]))
        width, height = map(int, answers.readline().split())
        if not 0 < width * height <= MAX_PIXELS:
            raise ValueError
        answers.readline()
        size = 3 * width * height
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        with memoryview(self._buffer)[:size] as pixels:
            if answers.readinto(pixels) != size:  # type: ignore[attr-defined]
                raise EOFError
            image = Image.new("RGB", (width, height), None)
            image.frombytes(pixels)
        if size > _KEPT_BYTES:
            self._buffer = bytearray()
        return image

    def _end(self) -> int:
        """Let go of the process; return its exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        try:
            process.wait(1.0)  # if it has died by itself, it is as good as gone
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # bytes that it did not want any more
                assert pipe is not None
                pipe.close()
        return process.returncode


def _epitaph(status: int) -> str:
    """Say how a process ended, in words."""
    if status >= 0:
        return f"its process ended with status {status}"
    known = {number.value: number.name for number in signal.Signals}
    return f"its process was ended by {known.get(-status, f'signal {-status}')}"
