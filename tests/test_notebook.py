"""What values look like in a notebook."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import draw_squares

import retrieval_grounding as rg
from retrieval_grounding import Hit, Hits

EVIL = "<script>alert(1)</script>\"'"


@pytest.fixture
def hit(tmp_path) -> Hit:
    path = draw_squares(tmp_path / "a.png", {"red": (20, 15, 40, 35)})
    return Hit("a red square", str(path), (20, 15, 40, 35), 0.5, 0.81, "red", 1)


def test_a_hit_and_a_list_of_hits_show_their_pictures(hit):
    for shown, count in ((hit, 1), (Hits([hit] * 3), 3)):
        html = shown._repr_html_()
        assert html.count('<img src="data:image/jpeg;base64,') == count
        assert html.count("a red square <b>81%</b>") == count
    assert "Nothing was found." in Hits()._repr_html_()


def test_long_lists_show_a_dozen_and_count_the_rest(hit):
    html = Hits([hit] * 200)._repr_html_()
    assert html.count("<img ") == 12
    assert "… 188 more" in html
    assert len(html) < 200_000


def test_pictures_that_cannot_be_shown_say_why(hit, tmp_path):
    gone = replace(hit, image=str(tmp_path / "gone.png"))
    changed = replace(hit, content_hash="0" * 32)
    html = Hits([gone, changed])._repr_html_()
    assert "missing" in html
    assert "changed" in html
    assert "<img " not in html


@pytest.mark.skipif(os.name == "nt", reason="such names are not allowed on Windows")
def test_what_strangers_wrote_stays_text(hit, tmp_path):
    path = Path(hit.image).rename(tmp_path / f"{EVIL.replace('/', '')}.png")
    html = replace(hit, phrase=EVIL, label=EVIL, label_score=1.0, image=str(path))._repr_html_()
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 4
    assert not re.search(r"\sid=|<style", html)  # neither may reach other cells


def test_an_index_shows_what_it_holds(photos, tmp_path, models):
    index = rg.build(photos, tmp_path / "index", options=rg.BuildOptions(progress=False), **models)
    html = index._repr_html_()
    assert str(tmp_path / "index") in html
    assert re.search(r"images</th><td[^>]*>4<", html)
    assert html.count("<img ") == 4
    index.close()
    assert "(closed)" in index._repr_html_()


CELLS = (
    """
import time
from retrieval_grounding.core.progress import progress_bar
with progress_bar("Counting <sheep>", 3, "sheep") as advance:
    for _ in range(3):
        time.sleep(0.25)
        advance(1)
""",
    "import retrieval_grounding as rg\n"
    "rg.Hits([rg.Hit('red', PATH, (5, 5, 25, 25), 1.0, 0.5, 'red', 1)])",
)


def test_a_real_notebook_shows_progress_and_pictures(hit, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    root = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    cells = [f"PATH = {hit.image!r}", *CELLS]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
    [bar] = book.cells[1].outputs
    assert '<progress value="3" max="3">' in bar["data"]["text/html"]
    assert "Counting &lt;sheep&gt;: 3 of 3 sheep" in bar["data"]["text/html"]
    [answer] = book.cells[2].outputs
    assert "<img src=" in answer["data"]["text/html"]
    assert answer["data"]["text/plain"] == "[<Hit 50% 'red' in a.png, box 5 5 25 25>]"
