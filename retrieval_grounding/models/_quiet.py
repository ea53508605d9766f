"""Calling model libraries without messages on stdout, analytics, installs or lost threads."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

__all__ = ["quiet_libraries"]


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


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Run the block with stdout kept clean: what is printed inside goes to stderr.

    Ultralytics binds its log handler to ``sys.stdout`` when it is imported, so its first import
    belongs inside such a block. A variable that the user has set is left as it is. It also takes
    one thread from PyTorch whenever it predicts, which on two cores is half; that is undone.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for logger in ("ultralytics", "open_clip", "timm", "huggingface_hub", "transformers"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    # open_clip logs to the root logger, ahead of errors that are raised and told in our words.
    root = logging.getLogger()
    level = root.level
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch is not None else None
    root.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
        if torch is not None and threads != torch.get_num_threads():
            torch.set_num_threads(threads)
