"""Model libraries without output on stdout, log messages, analytics, installs or lost threads."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator

__all__ = ["keep_generator", "quiet_libraries"]


_ENVIRONMENT = {
    "YOLO_VERBOSE": "false",
    "YOLO_OFFLINE": "true",  # no update check and no analytics; asked-for weights still download
    "YOLO_AUTOINSTALL": "false",
    "ULTRALYTICS_SAFE_LOAD": "1",  # checkpoints are unpickled against ultralytics' allow-list
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}


_LOGGERS = ("ultralytics", "open_clip", "timm", "huggingface_hub", "transformers")

_thread = threading.local()


def _is_heard(record: logging.LogRecord) -> bool:
    """Return whether a record of the root logger comes from outside a quiet block."""
    return not getattr(_thread, "quiet", False)


@contextlib.contextmanager
def keep_generator() -> Iterator[None]:
    """Run a block that initializes networks, without using up the user's random numbers."""
    import torch

    with torch.random.fork_rng(devices=[]):
        yield


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Run a block in which libraries print to stderr, log only errors, and send nothing.

    Ultralytics binds its log handler to ``sys.stdout`` when it is imported, so it must first be
    imported inside such a block. Environment variables that the user has set stay as they are.
    Ultralytics also takes a thread from PyTorch whenever it predicts, which is half of two cores;
    that is undone.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for logger in _LOGGERS:
        logging.getLogger(logger).setLevel(logging.ERROR)
    # open_clip logs to the root logger, which belongs to the application: what this thread logs
    # there is dropped, what other threads log is not. Adding a filter twice has no effect.
    logging.getLogger().addFilter(_is_heard)
    before, _thread.quiet = getattr(_thread, "quiet", False), True
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch is not None else None
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _thread.quiet = before
        if torch is not None and threads != torch.get_num_threads():
            torch.set_num_threads(threads)
