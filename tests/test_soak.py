"""Ten seconds of ``soak.py``: readers in threads and processes against a busy writer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).with_name("soak.py")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="one of the readers is forked")
def test_readers_beside_a_busy_writer_are_right_and_leak_nothing():
    done = subprocess.run(
        [sys.executable, SOAK, "--minutes", str(10 / 60)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["wrong"], report["missing"], report["failed"]) == (0, 0, 0)
    assert report["queries"] > 100
    assert sum(report["steps"].values()) > 0
