"""The drawn still lifes: every phrase describes one thing, and REFER's files say which."""

from __future__ import annotations

import json

import pytest
from drawn_models import draw_refer

from retrieval_grounding.data.expressions import read_expressions

KINDS = {
    "name", "color", "size", "place", "order", "relation", "size relation", "order relation",
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    counts = draw_refer(folder, 30, seed=3)
    assert counts["images"] == 30
    assert counts["expressions"] >= 29 * 10  # a nearly empty table has fewer
    return folder


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def gap(a, b):
    x = max(a[0] - b[2], b[0] - a[2], 0)
    y = max(a[1] - b[3], b[1] - a[3], 0)
    return (x * x + y * y) ** 0.5


def named(phrase, things):
    """Return the things that `phrase`, such as "red cup" or "cup", may mean."""
    *color, category = phrase.split()
    return [t for t in things if t.category == category and color in ([], [t.color])]


def meant(phrase, things):
    """Return what a phrase means, reading it from its end."""
    phrase = phrase.removeprefix("the ")
    phrase, _, landmark = phrase.partition(" next to the ")
    words = phrase.split()
    key, rank = None, 0
    if words[0] in ("largest", "smallest"):
        sign = -1 if words.pop(0) == "largest" else 1
        key = lambda thing: sign * area(thing.box)  # noqa: E731
    for preposition in ("on", "from"):
        if preposition in words:
            side = words[-1]
            if preposition == "from":
                rank = ("first", "second", "third", "fourth").index(words[0])
                words = words[1:]
            words = words[: words.index(preposition)]
            axis = "x" if side in ("left", "right") else "y"
            sign = 1 if side in ("left", "top") else -1
            key = lambda thing, axis=axis, sign=sign: sign * getattr(thing, axis)  # noqa: E731
    found = named(" ".join(words), things)
    if landmark:
        (neighbor,) = named(landmark, things)
        found = [thing for thing in found if gap(thing.box, neighbor.box) <= 26]
    return [sorted(found, key=key)[rank]] if key else found


def test_every_phrase_describes_one_thing():
    from drawn.phrases import expressions
    from drawn.scenes import draw_scene

    kinds, complete = set(), 0
    for number in range(60):
        things = draw_scene(f"7 {number}").things
        for thing, phrase, kind in expressions(things):
            kinds.add(kind)
            assert meant(phrase, things) == [thing], phrase
            complete += phrase.startswith("the second") and "next to" in phrase
    assert kinds == KINDS
    assert complete  # "the second red cup from the left next to the plate"


def test_the_files_are_read_as_published_ones(data):
    umd = read_expressions(data / "refcocog" / "refs(umd).p")
    google = read_expressions(data / "refcocog" / "refs(google).p")
    assert not umd.skipped
    assert {(e.phrase, e.box) for e in umd} == {(e.phrase, e.box) for e in google}
    images = {}
    for expression in umd:
        images.setdefault(expression.split, set()).add(expression.image)
    assert images.keys() == {"train", "val", "test"}
    assert sum(map(len, images.values())) == 30  # no image is in two splits
    assert {e.split for e in google} == {"train", "val"}
    instances = json.loads((data / "refcocog" / "instances.json").read_text())
    assert all((data / "train2014" / row["file_name"]).is_file() for row in instances["images"])


def test_the_same_arguments_draw_the_same_bytes(data, tmp_path):
    draw_refer(tmp_path, 30, seed=3)
    for path in sorted(data.rglob("*")):
        if path.is_file():
            assert (tmp_path / path.relative_to(data)).read_bytes() == path.read_bytes()
