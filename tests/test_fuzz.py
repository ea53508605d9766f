"""A short run of the fuzzers; ``python tests/fuzz.py`` is a long one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_mutants_give_named_errors_only():
    # In a new process: the threads of PyTorch, which other tests start, do not survive a fork.
    script = Path(__file__).with_name("fuzz.py")
    counts = "--images 500 --decoded 200 --texts 300 --stores 40 --seed 1000000"
    command = [sys.executable, str(script), *counts.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
