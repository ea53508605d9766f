"""Thumbs for hits: stored at once, by anybody, undone, verified, and never more than a thumb."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import ColorEncoder, SquareDetector, draw_squares
from hypothesis import given, settings
from hypothesis import strategies as st

import retrieval_grounding as rg
from retrieval_grounding.matching.feedback_statements import feedback_statements
from retrieval_grounding.matching.sources import parse_source
from retrieval_grounding.matching.statements import Statement
from retrieval_grounding.storage import feedback_file
from retrieval_grounding.storage.catalog import Catalog
from retrieval_grounding.storage.feedback_file import FEEDBACK_FILE, FeedbackFile
from retrieval_grounding.storage.lock import writer_lock
from retrieval_grounding.storage.region_store import RegionStore

QUIET = rg.BuildOptions(progress=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("feedback")
    (folder / "photos").mkdir()
    for number, color in enumerate(("red", "blue", "green", "red")):
        draw_squares(folder / "photos" / f"{number}.png", {color: (5, 5, 25 + number, 25)})
    models = {"detector": SquareDetector(), "clip": ColorEncoder()}
    rg.build(folder / "photos", folder / "index", options=QUIET, **models)
    return folder / "index"


@pytest.fixture
def folder(built, tmp_path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "index"))


def opened(folder: Path) -> rg.Index:
    return rg.Index.open(folder, encoder=ColorEncoder())


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / FEEDBACK_FILE).read_text().splitlines()]


def test_thumbs_are_listed_and_undone_by_everybody(folder):
    index, other = opened(folder), opened(folder)
    first, second, *_ = index.query("red", top=4)
    up = index.feedback.add(first, "up")
    down = index.feedback.add(second, "down")
    drawn = other.feedback.add(second, "up", box=(1, 2, 30.5, 40))
    assert (up.phrase, up.content_hash, up.image) == ("red", first.content_hash, first.image)
    assert up.box == pytest.approx(first.box) and up.image_size == first.image_size
    assert drawn.box == (1.0, 2.0, 30.5, 40.0)
    assert index.feedback.entries() == other.feedback.entries() == [up, down, drawn]
    assert other.feedback.undo(down.id) == down
    assert index.feedback.entries("RED") == [up, drawn] and index.feedback.entries("blue") == []
    with pytest.raises(rg.FeedbackError, match="no feedback has the id"):
        index.feedback.undo(down.id)
    assert len(opened(folder).feedback) == 2
    assert (index.verify().faults, index.verify().notes) == ([], [])


def test_lines_are_expressions_with_a_verdict(folder):
    index = opened(folder)
    hit = index.query("red")[0]
    entry = index.feedback.add(hit, "up")
    [line] = lines(folder)
    assert line == entry.as_dict() | {"checksum": line["checksum"]}
    [expression] = rg.read_expressions(folder / FEEDBACK_FILE)
    assert (expression.image, expression.phrase) == (hit.image, "red")
    assert expression.box == pytest.approx(hit.box)


def test_a_second_thumb_for_a_box_replaces_the_first(folder):
    index = opened(folder)
    hit = index.query("red")[0]
    index.feedback.add(hit, "up")
    index.feedback.add(hit, "up")
    last = index.feedback.add(replace(hit, phrase="Red"), "down")
    assert index.feedback.entries() == [last]
    assert [("retracts" in line) for line in lines(folder)] == [False, True, False, True, False]
    index.feedback.add(replace(hit, phrase="a red one"), "up")
    assert len(index.feedback) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phrase": " "}, "the phrase is empty"),
        ({"phrase": "a" * 1001}, "more than 1,000"),
        ({"phrase": 7}, "must be text"),
        ({"content_hash": "0" * 32}, "no image of the index"),
        ({"content_hash": None}, "no image of the index"),
        ({"content_hash": ""}, "no image of the index"),
        ({"verdict": "sideways"}, "'up' or 'down'"),
        ({"box": (0, 0, 1e9, 5)}, "not inside the image"),
        ({"box": (5, 5, 5, 9)}, "not inside the image"),
        ({"box": (0, 0, float("nan"), 5)}, "four numbers"),
        ({"box": (0, 0, 10**400, 5)}, "four numbers"),
        ({"box": (0, 0, 5)}, "four numbers"),
        ({"box": ("0", 0, 5, 5)}, "four numbers"),
    ],
)
def test_what_cannot_be_used_is_refused_and_not_stored(folder, changes, message):
    index = opened(folder)
    hit = index.query("red")[0]
    values = {"phrase": "red", "content_hash": hit.content_hash, "box": hit.box, "verdict": "up"}
    with pytest.raises(rg.FeedbackError, match=message):
        index.feedback.add_region(**(values | changes))
    assert not (folder / FEEDBACK_FILE).exists()
    assert index.feedback.entries() == []


def test_a_thumb_needs_no_lock_of_the_writer(folder):
    index = opened(folder)
    hit = index.query("red")[0]
    with writer_lock(folder):
        index.feedback.add(hit, "up")
    assert len(index.feedback) == 1


def _add_many(folder: Path, start: int, count: int) -> None:
    index = opened(folder)
    hit = index.query("red")[0]
    for number in range(start, start + count):
        index.feedback.add(replace(hit, phrase=f"red {number}"), "up")


def test_threads_and_processes_add_at_the_same_time(folder):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_add_many, args=(folder, 100 * n, 15)) for n in range(2)]
    workers += [threading.Thread(target=_add_many, args=(folder, 100 * n, 15)) for n in (2, 3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = opened(folder).feedback.entries()
    assert len({entry.phrase for entry in found}) == len(found) == 60
    assert opened(folder).verify().faults == []


def test_half_a_line_is_ignored_and_cut_off(folder):
    index = opened(folder)
    hit = index.query("red")[0]
    first = index.feedback.add(hit, "up")
    path = folder / FEEDBACK_FILE
    with path.open("ab") as file:
        file.write(path.read_bytes()[:-20])
    assert index.feedback.entries() == opened(folder).feedback.entries() == [first]
    assert index.verify().faults == []
    second = index.feedback.add(replace(hit, phrase="blue"), "down")
    assert opened(folder).feedback.entries() == [first, second]
    assert index.verify().faults == []


def changed(line: bytes, **values: object) -> bytes:
    known = json.loads(line)
    del known["checksum"]
    return json.dumps(known | values).encode()


DAMAGES = {
    "a value": lambda line: line.replace(b'"up"', b'"down"'),
    "not JSON": lambda line: line[:-5],
    "a list": lambda _: b"[1, 2]",
    "not text": lambda _: b"\xff\xfe",
    "nested": lambda _: b"[" * 5000,
    "long": lambda _: b'{"id": "' + b"x" * 20000 + b'"}',
    "no box": lambda _: b'{"id": "0123456789abcdef", "source": "feedback"}',
    "a strange retraction": lambda _: b'{"retracts": {}}',
    "an infinite box": lambda line: changed(line, bbox_xyxy=[0, 0, float("inf"), 1]),
    "a box that is a number": lambda line: changed(line, bbox_xyxy=7),
    "a strange verdict": lambda line: changed(line, verdict=["up"]),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_lines_are_left_out_reported_and_repaired(folder, kind):
    index = opened(folder)
    hit = index.query("red")[0]
    first, _, third = (
        index.feedback.add(replace(hit, phrase=phrase), "up") for phrase in ("red", "x", "blue")
    )
    path = folder / FEEDBACK_FILE
    parts = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([parts[0], DAMAGES[kind](parts[1]), *parts[2:]]))
    index = opened(folder)  # one that is open follows what is appended, and nothing else
    assert index.feedback.entries() == [first, third]
    before = path.read_bytes()
    [fault] = index.verify().faults
    assert (fault.where, fault.kind) == (FEEDBACK_FILE, "damaged")
    assert fault.detail.startswith("1 line cannot be used (line 2: ")
    index.verify(repair=True, detector=SquareDetector(), clip=ColorEncoder())
    assert path.with_name(f"{FEEDBACK_FILE}.damaged").read_bytes() == before
    assert index.feedback.entries() == [first, third]
    report = index.verify()
    assert (report.faults, report.notes) == (
        [],
        [f"{FEEDBACK_FILE}.damaged: moved aside by a repair"],
    )


def test_lines_without_a_checksum_count(folder):
    """Written by hand, or by another program."""
    index = opened(folder)
    entry = index.feedback.add(index.query("red")[0], "up")
    path = folder / FEEDBACK_FILE
    path.write_text(json.dumps(entry.as_dict() | {"comment": "by hand"}) + "\n")
    assert opened(folder).feedback.entries() == [entry]


def test_something_else_in_the_place_of_the_file_is_refused(folder, tmp_path):
    index = opened(folder)
    hit = index.query("red")[0]
    outside = tmp_path / "outside"
    outside.write_text("theirs\n")
    (folder / FEEDBACK_FILE).symlink_to(outside)
    with pytest.raises(rg.StoreError, match="link"):
        index.feedback.add(hit, "up")
    assert outside.read_text() == "theirs\n"
    [fault] = index.verify().faults
    assert fault.where == FEEDBACK_FILE
    index.verify(repair=True, detector=SquareDetector(), clip=ColorEncoder())
    index.feedback.add(hit, "up")
    assert outside.read_text() == "theirs\n" and len(index.feedback) == 1


def test_a_lock_that_is_a_link_is_refused(folder, tmp_path):
    index = opened(folder)
    hit = index.query("red")[0]
    (folder / feedback_file.FEEDBACK_LOCK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(rg.StoreError, match="link"):
        index.feedback.add(hit, "up")
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_file_takes_no_more(folder, monkeypatch):
    index = opened(folder)
    hit = index.query("red")[0]
    entry = index.feedback.add(hit, "up")
    size = (folder / FEEDBACK_FILE).stat().st_size
    monkeypatch.setattr(feedback_file, "_MAX_BYTES", size + 100)
    with pytest.raises(rg.StoreError, match="is full"):
        index.feedback.add(replace(hit, phrase="blue"), "up")
    assert index.feedback.entries() == [entry]


@pytest.mark.parametrize(
    "content",
    [b"\n" * (1 << 17), b"x" * ((1 << 24) + 1), b"{}\n" * 5000, (b"[" * 900 + b"\n") * 2000],
    ids=["lines", "bytes", "objects", "nested"],
)
def test_a_hostile_file_costs_little_and_is_a_fault(folder, content):
    (folder / FEEDBACK_FILE).write_bytes(content)
    index = opened(folder)
    hits = index.query("red")
    assert len(hits) == 4
    [fault] = index.verify().faults
    assert fault.where == FEEDBACK_FILE and len(fault.detail) < 400
    index.verify(repair=True, detector=SquareDetector(), clip=ColorEncoder())
    assert index.feedback.add(hits[0], "up") and len(index.feedback) == 1


def test_thumbs_outlive_changes_of_the_index(folder):
    """Removing an image, compacting, and moving files; they are about contents."""
    index = opened(folder)
    hits = index.query("red", top=4)
    entries = [index.feedback.add(hit, "up") for hit in hits]
    index.remove([hits[0].image])
    index.compact(max_unused=0)
    assert index.feedback.entries() == entries
    assert (index.verify().faults, len(index)) == ([], 3)
    with pytest.raises(rg.FeedbackError, match="no image of the index"):
        index.feedback.add(replace(hits[0], phrase="other"), "up")


@settings(max_examples=60, deadline=None)
@given(
    actions=st.lists(
        st.tuples(
            st.sampled_from(["up", "down", "undo", "again"]),
            st.integers(0, 2),
            st.integers(0, 5),
        ),
        max_size=12,
    ),
    cut=st.integers(0, 400),
)
def test_any_history_reads_the_same_from_the_start(tmp_path_factory, actions, cut):
    """Whether it is followed line by line, read at once, or cut off and continued."""
    folder = tmp_path_factory.mktemp("log")
    writer, reader = FeedbackFile(folder), FeedbackFile(folder)
    known: list[str] = []
    for number, (action, phrase, place) in enumerate(actions):
        if action == "again":
            path = folder / FEEDBACK_FILE
            if path.exists():
                path.write_bytes(path.read_bytes()[: -cut or None])
            writer = FeedbackFile(folder)
            assert not reader.read().damaged
            known = list(writer.read().entries)
        elif action == "undo" and known:
            gone = known.pop(place % len(known))
            writer.append(lambda _, gone=gone: [feedback_file.retraction(gone, "0" * 16, "t")])
        elif action in ("up", "down"):
            entry = rg.FeedbackEntry(
                f"{number:016x}", "2026-01-01T00:00:00Z", action, f"phrase {phrase}", "a.png",
                "0" * 32, (0.0, 0.0, 5.0 + place, 9.0), (20, 20),
            )  # fmt: skip
            writer.append(lambda _, entry=entry: [entry.as_dict()])
            known.append(entry.id)
        assert list(reader.read().entries) == known == list(FeedbackFile(folder).read().entries)


def statements(folder: Path, weight: float = 1.0) -> list[Statement]:
    thumbs = FeedbackFile(folder).read().entries.values()
    with (
        contextlib.closing(Catalog(folder)) as catalog,
        contextlib.closing(RegionStore(catalog)) as store,
    ):
        return feedback_statements(catalog, store, thumbs, weight)


def test_thumbs_become_statements(folder):
    """Up: the box. Down: what is there is what the detector says, and not what the phrase says."""
    index = opened(folder)
    hit = index.query("red")[0]
    width, height = hit.image_size
    x1, y1, x2, y2 = hit.box
    index.feedback.add(replace(hit, phrase="a red car"), "up")
    index.feedback.add(replace(hit, phrase="a red bus"), "down")
    index.feedback.add(replace(hit, phrase="a red"), "down")  # the label alone is wrong then
    index.feedback.add(replace(hit, phrase="a bus"), "down", box=(0, 40, 20, 60))  # no region
    undone = index.feedback.add(replace(hit, phrase="a tram"), "up")
    index.feedback.undo(undone.id)
    up, down = statements(folder, 0.5)
    assert (up.phrase, up.contrast, up.weight, up.generated) == ("a red car", "", 0.5, False)
    assert up.box == pytest.approx((x1 / width, y1 / height, x2 / width, y2 / height))
    assert (down.phrase, down.contrast, down.generated) == ("red", "a red bus", True)
    assert down.box == up.box and down.key == up.key
    index.remove([hit.image])
    assert statements(folder) == []


def test_a_matcher_learns_from_thumbs(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(12):
        draw_squares(
            photos / f"{number}.png", {"red": (5, 5, 25, 25), "blue": (40, 5 + number, 70, 50)}
        )
    models = {"detector": SquareDetector(), "clip": ColorEncoder()}
    index = rg.build(photos, tmp_path / "index", options=QUIET, **models)
    hits = index.query("red", top=12, feedback=False)
    for number, hit in enumerate(hits):
        if number == 9:
            with pytest.raises(rg.GroundingError, match="9 images, and training needs at least 10"):
                index.train("feedback")
        index.feedback.add(hit, "up")
    index.feedback.add(replace(hits[0], phrase="a red sheep"), "down")
    few = rg.TrainingOptions(epochs=1, progress=False)
    fit = index.train({"feedback": 2.0}, options=few)
    assert (fit.images, fit.expressions) == (12, 13)
    assert fit.matcher.trained_on == "13 thumbs, of which 13 say something to learn (weight 2)"
    assert index.verify().faults == []


def test_a_source_of_thumbs_may_have_a_weight():
    assert parse_source("feedback=0.5") == ("feedback", 0.5)
