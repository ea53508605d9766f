"""Reading Flickr30k Entities: the published layout, and what a stranger may put into it."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_referring import mutate

from retrieval_grounding.core.errors import ExpressionError
from retrieval_grounding.data.expressions import read_expressions

ANNOTATION = """<annotation>
  <filename>1000092795.jpg</filename>
  <size><width>333</width><height>500</height><depth>3</depth></size>
  {objects}
</annotation>
"""
BOX = (
    "<object>{names}<bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax>"
    "</bndbox></object>"
)
CAPTION = (
    "[/EN#283585/people Two young guys] with [/EN#283587/bodyparts shaggy hair] hang out in "
    "[/EN#283588/scene the yard] by [/EN#0/notvisual the background] .\n"
    "[/EN#283585/people/other Two people] stand ."
)


def box(x1: int, y1: int, x2: int, y2: int, *chains: str) -> str:
    names = "".join(f"<name>{chain}</name>" for chain in chains)
    return BOX.format(x1, y1, x2, y2, names=names)


OBJECTS = (
    box(10, 20, 50, 80, "283585"),
    box(60, 30, 100, 90, "283585", "283587"),  # one box of two chains
    "<object><name>283588</name><scene>1</scene><nobndbox>0</nobndbox></object>",
)


def write_entities(folder: Path, images: dict[str, tuple[str, str]], **splits: str) -> Path:
    for name in ("Annotations", "Sentences"):
        (folder / name).mkdir(parents=True)
    for name, (xml, text) in images.items():
        (folder / "Annotations" / f"{name}.xml").write_text(xml, encoding="utf-8")
        (folder / "Sentences" / f"{name}.txt").write_text(text, encoding="utf-8")
    for split, names in splits.items():
        (folder / f"{split}.txt").write_text(names, encoding="utf-8")
    return folder


def test_phrases_have_the_box_around_their_chain_and_the_split_of_their_image(tmp_path):
    xml = ANNOTATION.format(objects="".join(OBJECTS))
    images = {"1000092795": (xml, CAPTION), "2": (ANNOTATION.format(objects=OBJECTS[0]), CAPTION)}
    folder = write_entities(tmp_path / "entities", images, train="2\n", val="1000092795\r\n")
    found = read_expressions(folder, splits=["val"])
    assert [(e.phrase, e.box, e.category, e.object_id) for e in found] == [
        ("Two young guys", (9, 19, 100, 90), "people", "1000092795_283585"),
        ("shaggy hair", (59, 29, 100, 90), "bodyparts", "1000092795_283587"),
        ("Two people", (9, 19, 100, 90), "people", "1000092795_283585"),
    ]
    first = found.expressions[0]
    assert (first.image, first.split, first.dataset, first.image_size) == (
        "1000092795.jpg", "val", "flickr30k_entities", (333, 500)
    )  # fmt: skip
    assert found.skipped == {"no-box": 5, "other-split": 2}
    once = read_expressions(folder, splits=["val"], first_sentence_only=True)
    assert [e.phrase for e in once] == ["Two young guys", "shaggy hair"]


BOMB = (
    '<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><annotation><object><name>&c;</name></object>'
    "</annotation>"
)
FILE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>'


@pytest.mark.parametrize(
    ("xml", "problem"),
    [
        (BOMB, "bad-xml"),
        (FILE, "bad-xml"),
        ("<annotation>", "bad-xml"),
        ("<a>" * 100_000, "bad-xml"),
        (" " * (1 << 21), "file-too-large"),
        (ANNOTATION.format(objects=BOX.format("x", 1, 2, 3, names="")), "bad-box"),
    ],
)
def test_hostile_annotations_are_skipped_by_reason(tmp_path, xml, problem):
    good = ANNOTATION.format(objects=OBJECTS[0])
    folder = write_entities(tmp_path / "e", {"1": (good, CAPTION), "2": (xml, CAPTION)})
    found = read_expressions(folder)
    assert found.skipped[problem] == 1
    assert {e.image for e in found} == {"1.jpg"}


def test_missing_files_are_counted_and_an_empty_folder_is_refused(tmp_path):
    folder = write_entities(tmp_path / "e", {"1": (ANNOTATION.format(objects=OBJECTS[0]), CAPTION)})
    (folder / "Sentences" / "2.txt").write_text(CAPTION)
    assert read_expressions(folder).skipped["file-missing"] == 1
    with pytest.raises(ExpressionError, match="has no usable expression"):
        read_expressions(write_entities(tmp_path / "none", {}))
    with pytest.raises(ExpressionError, match="has no split val"):
        read_expressions(folder, splits=["val"])


def test_damaged_files_raise_only_our_errors(tmp_path):
    xml, text = ANNOTATION.format(objects="".join(OBJECTS)).encode(), CAPTION.encode()
    folder = write_entities(tmp_path / "e", {"1": ("", "")})
    for seed in range(300):
        state = random.Random(seed)
        (folder / "Annotations" / "1.xml").write_bytes(mutate(xml, state))
        (folder / "Sentences" / "1.txt").write_bytes(mutate(text, state))
        try:
            for expression in read_expressions(folder):
                assert expression.box[2] > expression.box[0] >= 0
        except ExpressionError:
            pass


words = st.text(st.sampled_from("abcdefghijk'-,.&<é"), min_size=1, max_size=8)
phrases = st.lists(words, min_size=1, max_size=4).map(" ".join)
corners = st.tuples(*[st.integers(1, 150)] * 2, *[st.integers(160, 300)] * 2)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(phrases, corners), min_size=1, max_size=5))
def test_what_is_written_is_read(written):
    objects = "".join(box(*corners, str(n)) for n, (_, corners) in enumerate(written, 1))
    caption = " and ".join(f"[/EN#{n}/other {text}]" for n, (text, _) in enumerate(written, 1))
    with tempfile.TemporaryDirectory() as place:
        xml = ANNOTATION.format(objects=objects)
        folder = write_entities(Path(place) / "e", {"7": (xml, caption)})
        found = read_expressions(folder)
    assert [(e.phrase, e.box) for e in found] == [
        (text, (x1 - 1, y1 - 1, x2, y2)) for text, (x1, y1, x2, y2) in written
    ]
