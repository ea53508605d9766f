"""Virtual environments for the engines of a benchmark."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


class NotInstalledError(RuntimeError):
    """A peer's packages could not be installed; the message is one line."""


def environment(folder: Path, requirements: Sequence[str]) -> Path:
    """Return the Python of a virtual environment with `requirements`, created if missing.

    Raises
    ------
    NotInstalledError
        If it cannot be made; the half-made environment is removed.
    """
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    stamp, wanted = folder / "installed.txt", "\n".join(requirements) + "\n"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", *requirements],
    ):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            # pip's last line may be a hint; its reason is the first that says so.
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise NotInstalledError((errors or [last_line(done.stderr)])[0])
    stamp.write_text(wanted, encoding="utf-8")
    return python


def last_line(text: str) -> str:
    """Return the last line that is not blank, where programs usually report an error."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no reason")
