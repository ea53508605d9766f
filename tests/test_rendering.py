from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from fakes import draw_squares
from PIL import Image

from retrieval_grounding import GroundingError, Hit, render_html
from retrieval_grounding.rendering import draw_hit, save_hit


@pytest.fixture
def hit(tmp_path) -> Hit:
    path = draw_squares(tmp_path / "a.png", {"red": (200, 150, 300, 250)}, size=(400, 300))
    return Hit("a red square", str(path), (200, 150, 300, 250), 0.5, None, "red", 1)


def test_the_box_is_drawn_on_a_copy(hit):
    image = Image.open(hit.image).convert("RGB")
    before = np.asarray(image).copy()
    drawn = np.asarray(draw_hit(image, hit)).astype(int)
    np.testing.assert_array_equal(np.asarray(image), before)
    line = drawn[250, 250]
    for edge in (drawn[150:251, 200], drawn[150:251, 300], drawn[250, 200:301]):
        assert (edge == line).all()
    np.testing.assert_array_equal(drawn[260:, :], before[260:, :])


@pytest.mark.parametrize("box", [(0, 0, 400, 300), (398, 298, 400, 300), (0, 0, 1, 1)])
def test_boxes_at_the_border_can_be_drawn(hit, box):
    image = Image.open(hit.image).convert("RGB")
    assert draw_hit(image, replace(hit, box=box, phrase="long " * 40)).size == image.size


def test_save_writes_the_format_of_the_suffix(hit, tmp_path):
    save_hit(hit, tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (400, 300))
    with pytest.raises(GroundingError, match=r"\.png or \.jpg"):
        save_hit(hit, tmp_path / "out.xyz")


class Collector(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_the_page_is_self_contained_and_escapes_everything(hit, tmp_path):
    evil = "<script>alert('x')</script> & \"quotes\""
    gone = replace(hit, phrase=evil, image=f"{tmp_path}/<img src=x>.png", label="<b>")
    render_html([hit, gone], tmp_path / "page.html", title=evil)
    page = Collector()
    source = (tmp_path / "page.html").read_text(encoding="utf-8")
    page.feed(source)
    assert "script" not in {tag for tag, _ in page.tags}
    assert evil in page.text
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 1
    assert images[0]["src"].startswith("data:image/jpeg;base64,")
    assert "missing" in page.text
    assert not re.search(r"(src|href)=\"(?!data:)", source)


def test_a_page_that_cannot_be_written_is_an_error(hit, tmp_path):
    with pytest.raises(GroundingError, match="cannot write"):
        render_html([hit], tmp_path / "no" / "folder" / "page.html")
