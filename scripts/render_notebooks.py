#!/usr/bin/env python3
"""Execute the notebooks, and write them with their pictures to docs/notebooks.

A notebook that has not changed since it was rendered is left out, unless --all is given.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from PIL import Image

ROOT = Path(__file__).parents[1]
NOTEBOOKS, RENDERED = ROOT / "notebooks", ROOT / "docs" / "notebooks"
STYLES = re.compile(r"<style scoped>.*?</style>\s*|</?div>|<progress[^\n]*\n", re.S)
LARGE = 50_000  # bytes
NOISE = re.compile(r' (?:border="1"|class="dataframe"|style="[^"]*")')


def source_mark(path: Path) -> str:
    """Return the line that says which source a page was rendered from."""
    digest = hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
    return f"<!-- Rendered by scripts/render_notebooks.py from notebooks/{path.name} {digest} -->"


def execute(path: Path) -> nbformat.NotebookNode:
    """Run a notebook in its own folder, and return it with its outputs."""
    book = jupytext.read(path)
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
            os.environ[name] = str(Path(scratch) / name)
        client = NotebookClient(
            book,
            timeout=None,
            kernel_name="python3",
            resources={"metadata": {"path": str(NOTEBOOKS)}},
        )
        client.execute()
    return book


def smaller(name: Path, data: bytes) -> tuple[str, bytes]:
    """Return a picture under the name to write: photographs are smaller as JPEG."""
    if len(data) < LARGE:
        return name.name, data
    target = io.BytesIO()
    with Image.open(io.BytesIO(data)) as picture:
        picture.convert("RGB").save(target, "JPEG", quality=85, optimize=True)
    return f"{name.stem}.jpg", target.getvalue()


def render(path: Path) -> None:
    """Execute a notebook and write its page and pictures."""
    book = execute(path)
    for cell in book.cells:
        outputs = cell.get("outputs", [])
        cell["outputs"] = [o for o in outputs if o.get("name") != "stderr"]  # progress
    text, resources = MarkdownExporter().from_notebook_node(book)
    text = NOISE.sub("", STYLES.sub("", text)).replace(tempfile.gettempdir(), "/tmp")
    pictures = RENDERED / path.stem
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    for name, data in resources["outputs"].items():
        small = smaller(Path(name), data)
        (pictures / small[0]).write_bytes(small[1])
        text = text.replace(f"![png]({name})", f"![]({path.stem}/{small[0]})")
    text = re.sub(r"\n\s*\n\s*\n+", "\n\n", text)
    page = f"{source_mark(path)}\n\n{text.strip()}\n"
    (RENDERED / f"{path.stem}.md").write_text(page, encoding="utf-8")


def main() -> None:
    """Render what has changed, and say how long each took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="stems of notebooks; all by default")
    parser.add_argument("--all", action="store_true", help="also those that have not changed")
    given = parser.parse_args()
    for path in sorted(NOTEBOOKS.glob("*.py")):
        page = RENDERED / f"{path.stem}.md"
        known = page.read_text(encoding="utf-8") if page.exists() else ""
        if given.names and path.stem not in given.names:
            continue
        if known.startswith(source_mark(path)) and not given.all:
            print(f"{path.stem}: has not changed")
            continue
        start = time.monotonic()
        render(path)
        print(f"{path.stem}: {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
