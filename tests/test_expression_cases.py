"""Expressions as people write them: null boxes, fractions, other folders, and what was left out.

Covers the points on expressions and figures among the corners of training and evaluation; the
files of ../shared/cases are read where they are.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes import ColorEncoder, draw_squares
from typer.testing import CliRunner

import retrieval_grounding as rg
from retrieval_grounding.cli.app import app
from retrieval_grounding.core.errors import ExpressionError
from retrieval_grounding.data.expressions import read_expressions

BOX = (10.0, 20.0, 80.0, 90.0)


@pytest.fixture
def index(tmp_path, models) -> rg.Index:
    """An index of train/0000.png, of 160 × 120 pixels, with one green square at `BOX`."""
    folder = tmp_path / "train"
    folder.mkdir()
    draw_squares(folder / "0000.png", {"green": (10, 20, 80, 90)}, (160, 120))
    return rg.build(folder, tmp_path / "index", options=rg.BuildOptions(progress=False), **models)


def write(path: Path, *records: dict) -> Path:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


def evaluate(index: rg.Index, monkeypatch, *arguments: str):
    monkeypatch.setattr(
        rg.Index, "open",
        lambda directory, **_: rg.Index(directory, encoder=ColorEncoder(), device="cpu"),
    )  # fmt: skip
    return CliRunner().invoke(app, ["evaluate", str(index.directory), *arguments])


def test_case_04_a_null_box_does_not_hide_a_valid_one(shared):
    [read] = read_expressions(shared("cases/04_null_xyxy.jsonl"))
    assert read.box == BOX


def test_null_boxes_hide_no_other_in_csv_and_predictions(index, tmp_path):
    table = tmp_path / "refs.csv"
    table.write_text(
        "image,expression,x1,y1,x2,y2,x,y,w,h\n"
        "0000.png,the box,,,,,10,20,70,70\n"
        "0000.png,the same box,10,20,80,90,,,,\n"
        "0000.png,no box,,,,,,,,\n"
    )
    read = read_expressions(table)
    assert [expression.box for expression in read] == [BOX, BOX]
    assert read.skipped == {"bad-box": 1}
    record = {"image": "0000.png", "expression": "the box", "bbox": [10, 20, 70, 70]}
    theirs = write(tmp_path / "theirs.jsonl", record | {"bbox_xywh": None, "bbox_xyxy": None})
    report = index.evaluate(table, references=[theirs])
    assert report.figures["theirs"].missing == 1  # it has no prediction for "the same box"
    assert report.figures["theirs"].mean_iou.value == pytest.approx(0.5)


def test_case_05_what_was_left_out_is_counted_by_plain_reasons(index, shared, monkeypatch):
    done = evaluate(index, monkeypatch, "-r", str(shared("cases/05_skipped_keys.jsonl")), "--json")
    assert json.loads(done.stdout)["skipped"] == {"bad-box": 1, "image-not-in-index": 1}


def test_what_was_left_out_is_counted_by_plain_reasons(index, tmp_path, monkeypatch):
    record = {"image": "0000.png", "expression": "the box", "bbox_xywh": [0, 20, 70, 70]}
    gone, bad = record | {"image": "gone.png"}, record | {"bbox_xywh": [0, 20, 0, 70]}
    refs = write(tmp_path / "refs.jsonl", record, gone, gone, bad)
    done = evaluate(index, monkeypatch, "--refs", str(refs), "--json")
    assert json.loads(done.stdout)["skipped"] == {"bad-box": 1, "image-not-in-index": 2}


def test_case_06_a_name_never_finds_the_photograph_of_a_different_folder(index, shared):
    with pytest.raises(ExpressionError, match=r"such as val/0000\.png"):
        index.evaluate(shared("cases/06_same_name_other_folder.jsonl"))


@pytest.mark.parametrize(("name", "found"), [
    ("0000.png", True), ("train/0000.png", True), ("./train/0000.png", True),
    ("../train/0000.png", True), ("train\\0000.png", True), ("val/0000.png", False),
    ("/elsewhere/0000.png", False), ("train/val/0000.png", False), ("rain/0000.png", False),
])  # fmt: skip
def test_folders_in_a_name_must_match(index, tmp_path, name, found):
    record = {"image": name, "expression": "green", "bbox_xyxy": BOX}
    anchor = {"image": "0000.png", "expression": "the box", "bbox_xyxy": BOX}
    report = index.evaluate(write(tmp_path / "refs.jsonl", anchor, record))
    assert report.skipped == ({} if found else {"image-not-in-index": 1})


def test_case_07_boxes_from_0_to_1_are_named(index, shared):
    source = shared("cases/07_normalised_boxes.jsonl")
    for use in (read_expressions, index.evaluate, index.train):
        with pytest.raises(ExpressionError, match=r"line 1: normalized-box.*must be in pixels"):
            use(source)


@pytest.mark.parametrize(
    "box", [{"bbox_xyxy": [0.0, 0.17, 0.44, 0.75]}, {"bbox_xywh": [0.5, 0.5, 0.5, 0.5]},
            {"bbox_xyxy": [0, 0, 1, 1]}, {"bbox_xyxy": [-0.001, 0.2, 1.001, 0.4]}],
)  # fmt: skip
def test_boxes_from_0_to_1_are_left_out_by_name(tmp_path, box):
    record = {"image": "0000.png", "expression": "the box"}
    good = record | {"bbox_xyxy": BOX}
    small = record | {"bbox_xyxy": [0, 0, 2, 2]}
    read = read_expressions(write(tmp_path / "refs.jsonl", good, record | box, small))
    assert (len(read), read.skipped) == (2, {"normalized-box": 1})


def test_predictions_from_0_to_1_are_named(index, tmp_path):
    record = {"image": "0000.png", "expression": "the box"}
    refs = write(tmp_path / "refs.jsonl", record | {"bbox_xyxy": BOX})
    theirs = write(tmp_path / "theirs.jsonl", record | {"bbox_xyxy": [0.1, 0.2, 0.5, 0.7]})
    with pytest.raises(ExpressionError, match=r"theirs\.jsonl are from 0 to 1; write them in pix"):
        index.evaluate(refs, references=[theirs])
