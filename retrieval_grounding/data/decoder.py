"""Decoding in a separate process: an image that crashes or blocks it affects no other image."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.spawn import get_executable
from pathlib import Path
from typing import IO, Any

from PIL import Image

from ..core.errors import GroundingError, ImageError
from ..core.photo import Photo
from .damage import ImageNote
from .decoder_process import READY, YES
from .images import MAX_PIXELS, DecodedImage
from .memory import RGB_BYTES
from .watchdog import Watchdog

__all__ = ["Decoder"]


_LOGGER = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 60.0
_START_SECONDS = 60.0
_MAX_STARTS = 3
_STRIP_BYTES = 1 << 24
_PIPE_BYTES = 1 << 20  # with the usual 64 KiB, a photograph takes fifteen turns of both sides
_MAX_LINE_BYTES = 1 << 16

_OUT_OF_TIME = () if sys.platform == "win32" else (-int(signal.SIGXCPU), -int(signal.SIGALRM))

# Unlike multiprocessing, this imports neither the user's script nor the site module.
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from retrieval_grounding.data.decoder_process import main; main(float(sys.argv[1]))"
)


class Decoder:
    """Decodes files one at a time in a process that starts with the first file.

    If the process dies, a new one is started for the next file. The process creates no files, needs
    neither stdin, stdout nor stderr of this one, and ends when this process is killed.

    Parameters
    ----------
    timeout : float
        Seconds that decoding one file may take. The time is taken in this process, so it also ends
        a process that has been stopped.
    """

    def __init__(self, timeout: float = _TIMEOUT_SECONDS) -> None:
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = bytearray()
        self._stopped = False
        self._stuck = False
        self._watchdog = Watchdog(self._expire, min(1.0, timeout / 4))
        self._lock = threading.Lock()  # held while the process is started or stopped

    def decode(self, data: bytes) -> Image.Image:
        """Decode an image; see :func:`retrieval_grounding.data.images.decode_image`."""
        return self.decode_with_notes(data).image

    def decode_with_notes(
        self, data: bytes, take: Callable[[int, int], None] | None = None
    ) -> DecodedImage:
        """Decode an image; see :func:`retrieval_grounding.data.images.decode_with_notes`.

        Parameters
        ----------
        data : bytes
            The whole file.
        take : callable, optional
            Called before pixels are decoded, with the bytes of memory that both processes will need
            at the peak, and those that the image takes afterwards. It may wait, or raise an error.

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
        files, results = self._process.stdin, self._process.stdout
        try:
            with self._watchdog.watching(self._timeout):
                files.write(len(data).to_bytes(8, "little"))
                files.write(data)
                files.flush()
                header = _read_line(results)
            need, pixels = int(header["need"]), int(header["pixels"])
            if not 0 < pixels <= MAX_PIXELS or need < 0:
                raise ValueError(f"{pixels} pixels")
            if take is not None:
                kept = RGB_BYTES * pixels
                self._ask(take, need + len(data) + kept, kept)
            with self._watchdog.watching(self._timeout):
                files.write(YES)
                files.flush()
                answer = _read_line(results)
                notes = tuple(ImageNote(str(kind), str(text)) for kind, text in answer["notes"])
                taken, camera, gps, looks = answer["photo"]
                photo = Photo(str(taken), str(camera), bool(gps), str(looks))
                return DecodedImage(self._read_image(results, pixels), notes, photo)
        except MemoryError as error:
            self._release()
            raise ImageError("out-of-memory", "the pixels do not fit into memory") from error
        except (OSError, EOFError, ValueError, LookupError, TypeError) as error:
            raise self._failure() from error

    def stop(self) -> None:
        """Kill the process, from any thread; decoding the current file fails."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """Kill the process and release its resources; no file may be in progress."""
        self.stop()
        self._watchdog.close()
        self._release()

    def _ask(self, take: Callable[[int, int], None], need: int, kept: int) -> None:
        """Call `take`; if it raises an error, let the process forget the file."""
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            take(need, kept)
        except BaseException:
            with contextlib.suppress(OSError):
                self._process.stdin.write(b"n")
                self._process.stdin.flush()
            raise

    def _expire(self) -> None:
        with self._lock:
            self._stuck = True
            if self._process is not None:
                self._process.kill()

    def _failure(self) -> ImageError:
        """End the process after a failure, and return what happened."""
        status = self._release()
        stuck, self._stuck = self._stuck or status in _OUT_OF_TIME, False
        if stuck:
            detail = f"decoding it took more than {self._timeout:g} s"
            failure = ImageError("decoder-stuck", detail)
        else:
            failure = ImageError("decoder-died", _describe_status(status))
        if not self._stopped:
            _LOGGER.warning("%s; a new process decodes the next image", failure)
        return failure

    def _start(self) -> None:
        self._release()
        package = str(Path(__file__).parents[2])  # may be missing in sys.path if editable
        path = [*(folder for folder in sys.path if isinstance(folder, str)), package]
        program = [get_executable(), "-S", "-W", "ignore", "-c", _PROGRAM, str(self._timeout)]
        reason = ""
        for _ in range(_MAX_STARTS):
            with self._lock:
                if self._stopped:
                    raise ImageError("decoder-died", "the build was stopped")
                try:
                    self._process = subprocess.Popen(
                        [*program, *path],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,  # that of this process may be closed
                        start_new_session=True,  # keeps Ctrl-C in a terminal away from it
                    )
                except OSError as error:
                    raise GroundingError(
                        f"cannot start a process to decode images ({error.strerror or error}); "
                        "everything committed so far is safe, so fix that and build again"
                    ) from error
            assert self._process.stdout is not None
            assert self._process.stderr is not None
            _enlarge(self._process.stdout)
            with self._watchdog.watching(_START_SECONDS):
                ready = self._process.stdout.readline() == READY
                errors = b"" if ready else self._process.stderr.read(_MAX_LINE_BYTES)
            if ready:
                self._stuck = False
                self._process.stderr.close()
                return
            lines = errors.decode(errors="replace").split("\n")
            said = next((line.strip() for line in reversed(lines) if line.strip()), "")
            reason = _describe_status(self._release()) + (f" ({said})" if said else "")
        raise GroundingError(f"cannot decode images, because {reason} while starting")

    def _read_image(self, results: IO[bytes], pixels: int) -> Image.Image:
        """Read a PPM image."""
        if results.readline() != b"P6\n":
            raise ValueError("no PPM image")
        width, height = map(int, results.readline().split())
        if width * height != pixels:
            raise ValueError(f"{width} × {height} pixels")
        results.readline()  # the largest value, 255
        image = Image.new("RGB", (width, height), None)
        rows = max(1, _STRIP_BYTES // (3 * width))  # limits the memory for copies
        for top in range(0, height, rows):
            count = min(rows, height - top)
            size = 3 * width * count
            if len(self._buffer) < size:
                self._buffer = bytearray(size)
            with memoryview(self._buffer)[:size] as part:
                if results.readinto(part) != size:  # type: ignore[attr-defined]
                    raise EOFError
                if count == height:
                    image.frombytes(part)
                else:
                    image.paste(Image.frombytes("RGB", (width, count), part), (0, top))
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
        for pipe in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(OSError):  # unread bytes in the pipe
                assert pipe is not None
                pipe.close()
        return process.returncode


def _enlarge(pipe: IO[bytes]) -> None:
    """Let a pipe hold a photograph, where the system allows it."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):  # users may have a limit for all of their pipes
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _read_line(results: IO[bytes]) -> dict[str, Any]:
    """Read a line of JSON, or raise the failure that the process reports."""
    line = results.readline(_MAX_LINE_BYTES)
    if not line:
        raise EOFError
    values = json.loads(line)
    if not isinstance(values, dict):
        raise ValueError(f"no answer: {line!r}")
    if "reason" in values:
        raise ImageError(str(values["reason"]), str(values["detail"]))
    return values


def _describe_status(status: int) -> str:
    """Return how a process ended, as text."""
    if status >= 0:
        return f"its process ended with status {status}"
    known = {number.value: number.name for number in signal.Signals}
    return f"its process was killed by {known.get(-status, f'signal {-status}')}"
