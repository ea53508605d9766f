"""Replaces the process that decodes: the last bytes of a file say how it fails."""

from __future__ import annotations

import os
import re
import signal
import time

from PIL.PngImagePlugin import PngImageFile

from retrieval_grounding.data import decoder_process
from retrieval_grounding.data.images import decode_with_notes

PROGRAM = (
    "import sys; sys.path[:] = sys.argv[2:]; import faulty_decoder; "
    "faulty_decoder.main(float(sys.argv[1]))"
)


def starve(image):
    raise MemoryError


def decode(data, allow):
    fate = data[-8:].strip()
    if fate == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif fate == b"killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fate == b"exit":
        os._exit(3)
    elif fate == b"hang":
        time.sleep(1000)
    elif fate == b"busy":
        re.match(r"(a+)+$", "a" * 60 + "b")  # never returns, nor lets another thread run
    elif fate == b"babble":
        print("libtiff: all is well", flush=True)
        os.write(1, b"not from Python either\n")
    elif fate == b"starve":
        PngImageFile.load, load = starve, PngImageFile.load
        try:
            return decode_with_notes(data, allow)
        finally:
            PngImageFile.load = load
    return decode_with_notes(data, allow)


def main(timeout):
    decoder_process.decode_with_notes = decode
    decoder_process.main(timeout)
