"""The notebooks run from the first to the last cell, and the pages show what they are now."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("jupytext")
pytest.importorskip("nbclient")
pytest.importorskip("nbconvert")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import render_notebooks  # noqa: E402

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_page_was_rendered_from_this_notebook(path):
    page = (ROOT / "docs" / "notebooks" / f"{path.stem}.md").read_text(encoding="utf-8")
    assert page.startswith(render_notebooks.source_mark(path)), "run scripts/render_notebooks.py"
    pictures = ROOT / "docs" / "notebooks" / path.stem
    assert list(pictures.iterdir())
    assert all(f"({path.stem}/{picture.name})" in page for picture in pictures.iterdir())


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs(path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    book = render_notebooks.execute(path)  # raises if a cell does
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
