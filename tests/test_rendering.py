from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import sqlite3
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fakes import ColorEncoder, draw_squares
from PIL import Image

import retrieval_grounding as rg
from retrieval_grounding import GroundingError, Hit, render_html
from retrieval_grounding.core.addresses import link_to
from retrieval_grounding.search.draw import draw_hits, save_picture
from retrieval_grounding.search.fonts import missing_characters


@pytest.fixture
def hit(tmp_path) -> Hit:
    path = draw_squares(tmp_path / "a.png", {"red": (200, 150, 300, 250)}, size=(400, 300))
    return Hit("a red square", str(path), (200, 150, 300, 250), 0.5, None, "red", 1)


def test_the_box_is_drawn_on_a_copy(hit):
    image = Image.open(hit.image).convert("RGB")
    before = np.asarray(image).copy()
    drawn = np.asarray(draw_hits(image, [hit])).astype(int)
    np.testing.assert_array_equal(np.asarray(image), before)
    line = drawn[250, 250]
    for edge in (drawn[150:251, 200], drawn[150:251, 300], drawn[250, 200:301]):
        assert (edge == line).all()
    np.testing.assert_array_equal(drawn[260:, :], before[260:, :])


@pytest.mark.parametrize("box", [(0, 0, 400, 300), (398, 298, 400, 300), (0, 0, 1, 1)])
def test_boxes_at_the_border_can_be_drawn(hit, box):
    image = Image.open(hit.image).convert("RGB")
    assert draw_hits(image, [replace(hit, box=box, phrase="long " * 40)] * 3).size == image.size


def test_save_writes_the_format_of_the_suffix(hit, tmp_path):
    save_picture(hit.image, [hit], tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (400, 300))
    with pytest.raises(GroundingError, match=r"\.png or \.jpg"):
        save_picture(hit.image, [hit], tmp_path / "out.xyz")


@pytest.mark.parametrize("name", ["a.png", "../{folder}/a.png", "link.png", "hard.png"])
def test_a_picture_never_replaces_its_own_source(hit, tmp_path, name):
    before = Path(hit.image).read_bytes()
    if name == "link.png":
        (tmp_path / name).symlink_to(hit.image)
    elif name == "hard.png":
        os.link(hit.image, tmp_path / name)
    target = tmp_path / name.format(folder=tmp_path.name)
    with pytest.raises(GroundingError, match="the image itself"):
        save_picture(hit.image, [hit], target)
    assert Path(hit.image).read_bytes() == before
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("suffix", "side"), [("jpg", 65_501), ("webp", 16_384), ("gif", 65_536), ("ico", 257)]
)
def test_a_size_that_the_format_cannot_hold_is_one_sentence(tmp_path, suffix, side):
    Image.new("RGB", (side, 2), "gray").save(tmp_path / "wide.png")
    (tmp_path / f"out.{suffix}").write_bytes(b"an old picture")
    with pytest.raises(GroundingError, match=r"at most [\d,]+ pixels per side") as failure:
        save_picture(tmp_path / "wide.png", [], tmp_path / f"out.{suffix}")
    assert "\n" not in str(failure.value)
    assert (tmp_path / f"out.{suffix}").read_bytes() == b"an old picture"
    save_picture(tmp_path / "wide.png", [], tmp_path / "out.png")


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "webp", "gif", "tif", "bmp", "avif", "jp2"])
def test_the_largest_sizes_of_a_format_can_be_written(tmp_path, suffix):
    side = {"webp": 16_383, "avif": 32_768}.get(suffix, 65_500)
    Image.new("RGB", (side, 2), "gray").save(tmp_path / "wide.png")
    save_picture(tmp_path / "wide.png", [], tmp_path / f"out.{suffix}")
    with Image.open(tmp_path / f"out.{suffix}") as image:
        assert image.size == (side, 2)


@pytest.mark.parametrize("suffix", ["xbm", "msp", "psd", "xyz", "fits"])
def test_a_format_that_cannot_be_written_is_one_sentence(hit, tmp_path, suffix):
    with pytest.raises(GroundingError, match=r"\.png") as failure:
        save_picture(hit.image, [hit], tmp_path / f"out.{suffix}")
    assert "\n" not in str(failure.value)
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize("phrase", ["красный", "größte Tür", "κόκκινο", "أحمر"])
def test_phrases_in_other_scripts_can_be_read_in_a_picture(hit, tmp_path, phrase):
    assert missing_characters(phrase) == ""
    assert save_picture(hit.image, [replace(hit, phrase=phrase)], tmp_path / "out.png") == []
    first = Image.open(tmp_path / "out.png").tobytes()
    save_picture(hit.image, [replace(hit, phrase=phrase[::-1])], tmp_path / "out.png")
    assert Image.open(tmp_path / "out.png").tobytes() != first  # boxes would all look the same


def test_characters_that_no_font_has_are_named(hit, tmp_path):
    [remark] = save_picture(
        hit.image, [replace(hit, phrase="a \U000f0000 b")], tmp_path / "out.png"
    )
    assert "\U000f0000" in remark
    assert "boxes" in remark


def test_every_hit_has_a_box_and_a_name_of_its_own_color(hit):
    image = Image.open(hit.image).convert("RGB")
    other = replace(hit, phrase="a corner", box=(20, 200, 120, 280))
    drawn = np.asarray(draw_hits(image, [hit, other]))
    assert tuple(drawn[250, 250]) != tuple(drawn[280, 70])
    # Two phrases for one box: both names can be read, below each other.
    alone = np.asarray(draw_hits(image, [hit]))
    both = np.asarray(draw_hits(image, [hit, replace(hit, phrase="again")]))
    top, left = 150, 200
    assert (both[top - 12 : top, left : left + 60] == alone[top - 12 : top, left : left + 60]).all()
    assert (both[top : top + 12, left : left + 40] != alone[top : top + 12, left : left + 40]).any()


def test_without_hits_the_picture_is_written_without_boxes(hit, tmp_path):
    (tmp_path / "out.png").write_bytes(b"an old picture")
    save_picture(hit.image, [], tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image, Image.open(hit.image) as original:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(original))


class Collector(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def page_of(path: Path) -> tuple[str, Collector]:
    source, page = path.read_text(encoding="utf-8"), Collector()
    page.feed(source)
    return source, page


def test_a_page_names_every_phrase_also_in_its_title(hit, tmp_path):
    render_html([hit], tmp_path / "page.html", phrases=[hit.phrase, "a <green> one"])
    source, page = page_of(tmp_path / "page.html")
    assert "<title>a red square, a &lt;green&gt; one</title>" in source
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links[:2] == ["#phrase-1", "#phrase-2"]
    assert page.text.count("Nothing was found.") == 1
    assert page.text.index("Nothing was found.") > page.text.rindex("a <green> one")
    render_html([], tmp_path / "page.html", phrases=["a dog"])
    source, page = page_of(tmp_path / "page.html")
    assert "<h1>a dog</h1>" in source
    assert "Nothing was found." in page.text


def test_the_page_is_self_contained_and_escapes_everything(hit, tmp_path):
    evil = "<script>alert('x')</script> & \"quotes\""
    gone = replace(hit, phrase=evil, image=f"{tmp_path}/<img src=x>.png", label="<b>")
    render_html([hit, gone], tmp_path / "page.html", title=evil)
    source, page = page_of(tmp_path / "page.html")
    assert evil in page.text
    assert "missing" in page.text
    pictures = [attributes["href"] for tag, attributes in page.tags if tag == "image"]
    assert len(pictures) == 1
    assert pictures[0].startswith("data:image/jpeg;base64,")
    named = [tag[name] for _, tag in page.tags for name in ("src", "href") if name in tag]
    assert {re.match(r"#|[a-z]+:", value)[0] for value in named} == {"#", "data:", "file:"}
    assert not re.search(r"@import|url\(", source)


def test_only_the_script_of_the_page_may_run(hit, tmp_path):
    """A browser refuses all others by the page's policy, even if an escape had been forgotten."""
    render_html([hit], tmp_path / "page.html", phrases=["<script>alert(1)</script>"])
    source, page = page_of(tmp_path / "page.html")
    [policy] = [tag["content"] for name, tag in page.tags if "http-equiv" in tag]
    [script] = re.findall(r"<script>(.*?)</script>", source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'; img-src data:;" in policy


def test_a_photograph_is_embedded_once_however_many_phrases_hit_it(hit, tmp_path):
    found = [replace(hit, phrase=f"phrase {number}") for number in range(12)]
    render_html(found, tmp_path / "page.html")
    source, page = page_of(tmp_path / "page.html")
    assert source.count("data:image/jpeg") == 1
    assert source.count('href="#picture-1"') == 13  # a card for each phrase, and the full view
    [full] = [attributes for _, attributes in page.tags if "popover" in attributes]
    buttons = [attributes for tag, attributes in page.tags if tag == "button"]
    assert {attributes["popovertarget"] for attributes in buttons} == {full["id"]}
    assert all(
        f"phrase {number} " in source[source.index("popover aria") :] for number in range(12)
    )


def test_boxes_are_where_the_hits_are(hit, tmp_path):
    render_html([hit], tmp_path / "page.html")
    _, page = page_of(tmp_path / "page.html")
    styles = [
        attributes["style"] for _, attributes in page.tags if attributes.get("class") == "box"
    ]
    assert len(styles) == 2
    assert all("--x: 50.0%; --y: 50.0%; --dx: 25.0%; --dy: 33.33%" in style for style in styles)


def test_hits_keep_their_order_also_among_photographs(hit, tmp_path):
    other = draw_squares(tmp_path / "b.png", {"red": (0, 0, 9, 9)})
    first, second = replace(hit, probability=0.9), replace(hit, probability=0.7, image=str(other))
    third = replace(hit, probability=0.2)
    later = [replace(h, phrase="later") for h in (second, third, first)]
    render_html([first, second, third, *later], tmp_path / "page.html")
    cards = (tmp_path / "page.html").read_text(encoding="utf-8").split("<figcaption>")[1:]
    shown = [re.sub(r"<b>|</b>.*", "", card.splitlines()[0]) for card in cards]
    assert shown == ["a red square 90%", "a red square 70%", "a red square 20%", "later 70%",
                     "later 20%", "later 90%"]  # fmt: skip


@pytest.mark.parametrize(
    ("score", "label", "shown"),
    [(0.9, "fire hydrant", True), (0.3, "fire hydrant", False), (None, "fire hydrant", False),
     (1.0, "whole image", False)],
)  # fmt: skip
def test_the_label_is_shown_only_if_the_detector_is_sure(hit, tmp_path, score, label, shown):
    render_html([replace(hit, label=label, label_score=score)], tmp_path / "page.html")
    assert (label in page_of(tmp_path / "page.html")[1].text) == shown


def test_pictures_are_described_for_those_who_cannot_see_them(hit, tmp_path):
    render_html([replace(hit, probability=0.81)], tmp_path / "page.html")
    _, page = page_of(tmp_path / "page.html")
    named = [tag["aria-label"] for name, tag in page.tags if name == "svg" and "role" in tag]
    assert named == ["a red square, 81%: middle center"] * 2
    assert all(
        attributes.get("aria-label") for tag, attributes in page.tags if tag in ("button", "nav")
    )


def test_the_photograph_is_linked_unless_it_is_not_the_one_that_was_indexed(hit, tmp_path):
    changed = replace(hit, content_hash="0" * 32)
    for found, linked in (([hit], True), ([changed], False)):
        render_html(found, tmp_path / "page.html")
        source, _ = page_of(tmp_path / "page.html")
        assert (f'href="{Path(hit.image).as_uri()}"' in source) == linked


@pytest.mark.parametrize(
    ("address", "link"),
    [
        (
            "https://example.org/a%20b.jpg?size=2&x=(1)",
            "https://example.org/a%20b.jpg?size=2&x=(1)",
        ),
        ("HTTP://example.org/a.jpg", "HTTP://example.org/a.jpg"),
        ('https://example.org/" onclick="x', ""),
        ("https://example.org/\x1b\\evil", ""),
        ("javascript://example.org/%0aalert(1)", ""),
        ("s3://bucket/a.jpg", ""),
        ("content:0123", ""),
        ("a.jpg", ""),
    ],
)
def test_only_what_can_be_opened_is_linked(address, link):
    assert link_to(address) == link


def test_many_photographs_make_smaller_pictures(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (700, 1000, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.jpg", quality=60)
    names = [tmp_path / f"{number}.jpg" for number in range(120)]
    for name in names:
        os.link(tmp_path / "noise.jpg", name)
    found = [Hit("noise", str(name), (0, 0, 9, 9), 1.0, 0.5, "red", None) for name in names]
    render_html(found[:2], tmp_path / "few.html")
    render_html(found, tmp_path / "many.html")
    few, many = ((tmp_path / f"{name}.html").stat().st_size for name in ("few", "many"))
    assert many / 120 < few / 2 * 0.9


def test_a_page_that_cannot_be_written_is_an_error(hit, tmp_path):
    with pytest.raises(GroundingError, match="cannot write"):
        render_html([hit], tmp_path / "no" / "folder" / "page.html")


@pytest.fixture
def secret(tmp_path) -> Path:
    """A picture outside the collection."""
    (tmp_path / "private").mkdir()
    return draw_squares(tmp_path / "private" / "secret.png", {"yellow": (0, 0, 70, 50)})


@pytest.mark.parametrize("way", ["absolute", "dots", "link", "hard link", "text", "device"])
def test_an_index_that_names_other_files_cannot_have_them_shown(
    photos, tmp_path, models, secret, way
):
    """The catalog may come from anyone; only what was indexed may get into a page."""
    if way in ("link", "hard link"):
        (photos / "a.png").rename(photos / "kept.png")  # so that the tampered path is inside
    rg.build(photos, tmp_path / "index", options=rg.BuildOptions(progress=False), **models)
    target = {
        "absolute": str(secret),
        "dots": f"{photos}/../private/secret.png",
        "text": "/etc/passwd" if os.name != "nt" else __file__,
        "device": "/dev/zero" if os.name != "nt" else "NUL",
    }.get(way, str(photos / "a.png"))
    if way == "link":
        (photos / "a.png").symlink_to(secret)
    elif way == "hard link":
        os.link(secret, photos / "a.png")
    connection = sqlite3.connect(tmp_path / "index" / "catalog.sqlite")
    victim = connection.execute("SELECT path FROM images ORDER BY path").fetchone()
    connection.execute("UPDATE images SET path = ? WHERE path = ?", (target, *victim))
    connection.commit()
    connection.close()
    index = rg.Index.open(tmp_path / "index", encoder=ColorEncoder())
    hits = index.query("red", top=9)
    assert target in {hit.image for hit in hits}
    render_html(hits, tmp_path / "page.html")
    _, page = page_of(tmp_path / "page.html")
    assert sum(tag == "image" for tag, _ in page.tags) == len(hits) - 1
    assert "not-a-file" in page.text if way == "device" else "changed" in page.text
    with pytest.raises(GroundingError, match=r"changed|not-a-file"):
        save_picture(target, [hit for hit in hits if hit.image == target], tmp_path / "out.png")


def test_an_image_that_was_moved_back_or_copied_is_shown(photos, tmp_path, models):
    index = rg.build(photos, tmp_path / "index", options=rg.BuildOptions(progress=False), **models)
    shutil.copy(photos / "a.png", tmp_path / "copy.png")
    (photos / "a.png").unlink()
    shutil.copy(tmp_path / "copy.png", photos / "a.png")
    render_html(index.query("red"), tmp_path / "page.html")
    assert "changed" not in (tmp_path / "page.html").read_text(encoding="utf-8")


HOSTILE = "\"><img src=x onerror=alert(1)>'&<script>"


@pytest.mark.skipif(os.name == "nt", reason="such names are not allowed on Windows")
def test_hostile_names_labels_and_phrases_stay_text(tmp_path):
    path = draw_squares(tmp_path / "x.png", {"red": (0, 0, 9, 9)})
    path = path.rename(tmp_path / f"{HOSTILE.replace('/', '')}.png")
    shown = Hit(HOSTILE, str(path), (0, 0, 9, 9), 0.5, None, HOSTILE, 1)
    render_html([shown], tmp_path / "page.html", title=HOSTILE)
    _, page = page_of(tmp_path / "page.html")
    allowed = {"html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "p", "main",
               "section", "ul", "li", "figure", "figcaption", "button", "span", "svg", "use",
               "defs", "image", "div", "b", "a", "script"}  # fmt: skip
    assert {tag for tag, _ in page.tags} <= allowed
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not {name for _, names in page.tags for name in names if name.startswith("on")}
    assert page.text.count(HOSTILE) >= 3
    named = [tag["aria-label"] for name, tag in page.tags if name == "button"]
    assert any(HOSTILE.replace("/", "") in text for text in named)


def test_a_nested_list_of_hits_is_one_sentence(hit, tmp_path):
    with pytest.raises(GroundingError, match="a flat list of hits, and this one has a list"):
        render_html([[hit]], tmp_path / "page.html")
