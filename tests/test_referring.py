"""Reading referring expressions and finding their images."""

from __future__ import annotations

import csv
import gzip
import json
import pickle
import random
import struct
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval_grounding.core.errors import ExpressionError, GroundingError
from retrieval_grounding.data.expressions import Expression, read_expressions
from retrieval_grounding.data.refer import load_plain_pickle
from retrieval_grounding.data.resolve import resolve_images
from retrieval_grounding.storage.rows import ImageRow

RECORD = {
    "dataset": "toy",
    "split": "val",
    "ref_id": "toy_1",
    "object_id": 7,
    "image": "a.jpg",
    "coco_image_id": None,
    "expression": "a  red\tcar",
    "bbox_xywh": [10.5, 20, 30, 40],
    "category": "car",
    "width": 100,
    "height": 80,
}
READ = Expression("a.jpg", "a red car", (10.5, 20, 40.5, 60), "val", "toy", "car", "7", (100, 80))


def write_jsonl(path: Path, records: list) -> Path:
    lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in records]
    data = b"\n".join(lines) + b"\n"
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def refer_data() -> tuple[list, dict]:
    """Two references in the layout of refs(umd).p and instances.json."""
    refs = [
        {
            "sent_ids": [0, 1],
            "file_name": "COCO_train2014_000000000009_1.jpg",
            "ann_id": 1,
            "ref_id": 0,
            "image_id": 9,
            "split": "train",
            "category_id": 3,
            "sentences": [
                {"tokens": ["red", "car"], "raw": "Red car!", "sent_id": 0, "sent": "red car"},
                {"tokens": ["the", "caf\xe9"], "raw": "", "sent_id": 1, "sent": "the caf\xe9"},
            ],
        },
        {
            "sent_ids": [2],
            "file_name": "COCO_train2014_000000000009_2.jpg",
            "ann_id": 2,
            "ref_id": 1,
            "image_id": 9,
            "split": "val",
            "category_id": 1,
            "sentences": [{"tokens": ["man"], "raw": "man", "sent_id": 2, "sent": "man"}],
        },
    ]
    instances = {
        "images": [
            {
                "id": 9,
                "file_name": "COCO_train2014_000000000009.jpg",
                "width": 100,
                "height": 80,
            }
        ],
        "annotations": [
            {"id": 1, "image_id": 9, "bbox": [0, 0, 50, 40], "category_id": 3},
            {"id": 2, "image_id": 9, "bbox": [60, 10, 40, 70.5], "category_id": 1},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
    }
    return refs, instances


def python2_pickle(value: object) -> bytes:
    """Pickle as Python 2 does with protocol 2: byte strings, and every container memoized."""
    memo = iter(range(10**6))

    def put() -> bytes:
        number = next(memo)
        return b"q" + bytes([number]) if number < 256 else b"r" + struct.pack("<I", number)

    def emit(value: object) -> bytes:
        if isinstance(value, dict):
            items = b"".join(emit(key) + emit(item) for key, item in value.items())
            return b"}" + put() + b"(" + items + b"u"
        if isinstance(value, list):
            return b"]" + put() + b"(" + b"".join(map(emit, value)) + b"e"
        if isinstance(value, str):
            data = value.encode("latin1")
            return b"U" + bytes([len(data)]) + data + put()
        assert isinstance(value, int)
        return b"J" + struct.pack("<i", value)

    return b"\x80\x02" + emit(value) + b"."


def write_refer(folder: Path, data: bytes, instances: object, name: str = "umd") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"refs({name}).p").write_bytes(data)
    (folder / "instances.json").write_text(json.dumps(instances))
    return folder


@pytest.mark.parametrize("name", ["refs.jsonl", "refs.jsonl.gz"])
def test_json_lines_are_read_with_their_keys(tmp_path, name):
    read = read_expressions(write_jsonl(tmp_path / name, [RECORD]))
    assert (list(read), read.records, read.skipped) == ([READ], 1, Counter())


def test_csv_has_corners_or_sides(tmp_path):
    corners = tmp_path / "corners.csv"
    corners.write_text(
        "\ufeffimage,expression,x1,y1,x2,y2,split,dataset,category,object_id,width,height\n"
        "a.jpg,a red car,10.5,20,40.5,60,val,toy,car,7,100,80\n",
        encoding="utf-8",
    )
    assert list(read_expressions(corners)) == [READ]
    sides = tmp_path / "sides.csv"
    sides.write_text('expression,image,x,y,w,h\n"red, car",a.jpg,1,2,3,4\nshort,a.jpg,1\n')
    read = read_expressions(sides)
    assert list(read) == [Expression("a.jpg", "red, car", (1, 2, 4, 6))]
    assert read.skipped == {"wrong-number-of-fields": 1}


@pytest.mark.parametrize("protocol", ["python 2", 0, 1, 2, 3, 4, 5])
def test_refer_pickles_of_every_protocol_are_read(tmp_path, protocol):
    refs, instances = refer_data()
    data = python2_pickle(refs) if protocol == "python 2" else pickle.dumps(refs, protocol)
    folder = write_refer(tmp_path / "refcocog", data, instances)
    for source in (folder, folder / "refs(umd).p"):
        read = read_expressions(source)
        assert [e.phrase for e in read] == ["red car", "the caf\xe9", "man"]
        assert read.expressions[2] == Expression(
            "COCO_train2014_000000000009.jpg",
            "man",
            (60, 10, 100, 80),
            "val",
            "refcocog",
            "person",
            "2",
            (100, 80),
        )


def test_sentences_objects_and_splits_can_be_selected(tmp_path):
    refs, instances = refer_data()
    folder = write_refer(tmp_path / "refcocog", python2_pickle(refs), instances)
    firsts = read_expressions(folder, first_sentence_only=True)
    assert [e.phrase for e in firsts] == ["red car", "man"]
    assert firsts.skipped == {"later-sentence": 1}
    single = read_expressions(folder, one_object_per_image=True)
    assert [e.phrase for e in single] == ["red car", "the caf\xe9"]
    assert single.skipped == {"other-object": 1}
    # Splits come first: the first object of an image is the first in the split.
    chosen = read_expressions(folder, splits=["val"], one_object_per_image=True)
    assert [e.phrase for e in chosen] == ["man"]
    assert str(chosen) == "1 of 3 expressions (2 other-split)"
    with pytest.raises(ExpressionError, match="has no split test; it has train, val"):
        read_expressions(folder, splits=["test"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image": ""}, "no-image-name"),
        ({"image": 3}, "no-image-name"),
        ({"expression": " \t"}, "no-expression"),
        ({"expression": None}, "no-expression"),
        ({"bbox_xywh": None}, "bad-box"),
        ({"bbox_xywh": [1, 2, 3]}, "bad-box"),
        ({"bbox_xywh": [1, 2, 0, 4]}, "bad-box"),
        ({"bbox_xywh": [1, 2, 3, -4]}, "bad-box"),
        ({"bbox_xywh": [1, 2, 3, float("nan")]}, "bad-box"),
        ({"bbox_xywh": [1, 2, 3, 10**400]}, "bad-box"),
        ({"bbox_xywh": [1, 2, 3, True]}, "bad-box"),
        ({"bbox_xywh": [100, 2, 3, 4]}, "box-outside-image"),
        ({"width": 0}, "bad-image-size"),
        ({"height": "tall"}, "bad-image-size"),
    ],
)
def test_bad_records_are_skipped_by_reason_and_named_if_all_are_bad(tmp_path, change, reason):
    bad = RECORD | change
    read = read_expressions(write_jsonl(tmp_path / "some.jsonl", [bad, RECORD]))
    assert (list(read), read.skipped) == ([READ], {reason: 1})
    with pytest.raises(ExpressionError, match=f"line 2: {reason}"):
        read_expressions(write_jsonl(tmp_path / "all.jsonl", [b"  ", bad, bad]))


def test_lines_that_are_not_records_are_skipped_by_reason(tmp_path):
    lines = [b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b"1" * 5000, RECORD]
    read = read_expressions(write_jsonl(tmp_path / "a.jsonl", lines))
    assert list(read) == [READ]
    assert read.skipped == {"not-json": 3, "not-a-json-object": 1, "not-utf-8": 1}


def test_boxes_are_clipped_to_the_image(tmp_path):
    record = RECORD | {"bbox_xywh": [-5, 70, 200, 20]}
    [read] = read_expressions(write_jsonl(tmp_path / "a.jsonl", [record]))
    assert read.box == (0, 70, 100, 80)
    [unknown] = read_expressions(
        write_jsonl(tmp_path / "b.jsonl", [record | {"width": None, "height": None}])
    )
    assert (unknown.box, unknown.image_size) == ((0, 70, 195, 90), None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.jsonl", None, "does not exist"),
        ("a.xml", b"<a/>", "is not in a supported format"),
        ("a.jsonl", b"", "it is empty"),
        ("a.jsonl.gz", b"not packed", "cannot be read"),
        (
            "a.jsonl.gz",
            gzip.compress(json.dumps(RECORD).encode() * 99, mtime=0)[:-20],
            "cannot be read",
        ),
        ("a.csv", b"image,expression\n", "must name the columns"),
        ("a.csv", b"", "must name the columns"),
        ("a.csv", b"image,expression,x,y,w,h\n\xff", "cannot be read"),
        ("refs(x).p", b"", "is not a pickle of plain"),
        ("refs(x).p", pickle.dumps([]), r"instances\.json is missing"),
        ("refs(x).p", pickle.dumps({}), "does not hold a list of references"),
    ],
)
def test_files_that_cannot_be_read_are_named_in_one_sentence(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ExpressionError, match=message) as caught:
        read_expressions(tmp_path / name)
    assert str(tmp_path / name.replace("refs(x).p", "")) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_must_have_one_set_of_splits(tmp_path):
    with pytest.raises(ExpressionError, match=r"has no refs\(\.\.\.\)\.p"):
        read_expressions(tmp_path)
    refs, instances = refer_data()
    write_refer(tmp_path, pickle.dumps(refs), instances, "umd")
    write_refer(tmp_path, pickle.dumps(refs), instances, "google")
    with pytest.raises(ExpressionError, match=r"name one of .*google.*umd"):
        read_expressions(tmp_path)


def test_references_without_annotation_or_sentence_are_skipped(tmp_path):
    refs, instances = refer_data()
    refs += [7, refs[0] | {"ann_id": 5}, refs[0] | {"sentences": []}, refs[0] | {"ann_id": [1]}]
    read = read_expressions(write_refer(tmp_path, pickle.dumps(refs), instances))
    assert len(read) == 3
    assert read.skipped == {"not-a-reference": 1, "no-annotation": 2, "no-sentence": 1}


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("pwned"),)


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps([Evil()], 2),
        pickle.dumps([Evil()], 0),
        pickle.dumps([Evil()], 5),
        b"cos\nsystem\n(S'touch pwned'\ntR.",
        b"(S'touch pwned'\nios\nsystem\n.",
        b"\x80\x02c__builtin__\neval\nU\x01q\x85R.",
        pickle.dumps([print]),
        pickle.dumps({1: Counter()}),
    ],
)
def test_a_pickle_that_needs_code_is_refused(tmp_path, data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "refs(evil).p").write_bytes(data)
    with pytest.raises(ExpressionError, match="plain containers, strings and numbers"):
        load_plain_pickle(tmp_path / "refs(evil).p")
    assert not (tmp_path / "pwned").exists()


def test_a_pickle_that_claims_a_huge_table_needs_no_memory(tmp_path):
    (tmp_path / "a.p").write_bytes(b"\x80\x02]r" + struct.pack("<I", 2**32 - 1) + b".")
    assert load_plain_pickle(tmp_path / "a.p") == []


@pytest.mark.slow
def test_damaged_pickles_raise_only_our_errors(tmp_path):
    refs, instances = refer_data()
    whole = python2_pickle(refs)
    folder = write_refer(tmp_path, whole, instances)
    file, random_state, outcomes = folder / "refs(umd).p", random.Random(0), Counter()
    for _ in range(3000):
        file.write_bytes(mutate(whole, random_state))
        try:
            read_expressions(folder)
            outcomes["read"] += 1
        except GroundingError:
            outcomes["refused"] += 1
    assert min(outcomes["read"], outcomes["refused"]) > 100


@pytest.mark.slow
def test_damaged_tables_raise_only_our_errors(tmp_path):
    rows = "image,expression,x,y,w,h,width,height\na.jpg,a car,1,2,3,4,100,80\n"
    sources = {
        "a.jsonl": json.dumps(RECORD).encode() + b"\n" + json.dumps(RECORD).encode(),
        "b.jsonl.gz": gzip.compress(json.dumps(RECORD).encode()),
        "c.csv": rows.encode(),
    }
    random_state = random.Random(1)
    for name, data in sources.items():
        for _ in range(700):
            (tmp_path / name).write_bytes(mutate(data, random_state))
            try:
                for expression in read_expressions(tmp_path / name):
                    assert expression.box[2] > expression.box[0] >= 0
            except GroundingError:
                pass


def mutate(data: bytes, state: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(state.choice((1, 1, 2, 8))):
        where = state.randrange(len(changed))
        kind = state.randrange(4)
        if kind == 0:
            changed[where] = state.randrange(256)
        elif kind == 1:
            changed[where] ^= 1 << state.randrange(8)
        elif kind == 2:
            del changed[where : where + state.randrange(1, 9)]
        else:
            changed[where:where] = state.randbytes(state.randrange(1, 5))
        if not changed:
            break
    return bytes(changed)


coordinates = st.floats(0, 4000, width=32)
words = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=12)


@st.composite
def expressions(draw) -> Expression:
    x1, y1 = draw(coordinates), draw(coordinates)
    box = (x1, y1, x1 + draw(st.integers(2, 500)), y1 + draw(st.integers(2, 500)))
    phrase = " ".join(draw(st.lists(words, min_size=1, max_size=4)))
    name, split, dataset = draw(words) + ".jpg", draw(words), draw(words)
    size = draw(st.sampled_from([None, (5000, 6000)]))
    category = draw(st.sampled_from([None, "dog"]))
    return Expression(name, phrase, box, split, dataset, category, draw(words), size)


def as_record(expression: Expression, box: str) -> dict:
    x1, y1, x2, y2 = expression.box
    width, height = expression.image_size or (None, None)
    return {
        "image": expression.image,
        "expression": expression.phrase,
        box: list(expression.box) if box == "bbox_xyxy" else [x1, y1, x2 - x1, y2 - y1],
        "split": expression.split,
        "dataset": expression.dataset,
        "category": expression.category,
        "object_id": expression.object_id,
        "width": width,
        "height": height,
    }


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(expressions(), min_size=1, max_size=5), st.sampled_from(["jsonl", "jsonl.gz"]))
def test_json_lines_round_trip(tmp_path, written, suffix):
    records = [as_record(e, "bbox_xyxy") for e in written]
    path = write_jsonl(tmp_path / f"a.{suffix}", records)
    assert list(read_expressions(path)) == written
    path = write_jsonl(tmp_path / f"b.{suffix}", [as_record(e, "bbox_xywh") for e in written])
    for read, expected in zip(read_expressions(path), written, strict=True):
        assert read.box == pytest.approx(expected.box)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(expressions(), min_size=1, max_size=5))
def test_csv_round_trips(tmp_path, written):
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        columns = "image expression x1 y1 x2 y2 split dataset category object_id width height"
        writer = csv.writer(file)
        writer.writerow(columns.split())
        for e in written:
            size = e.image_size or ("", "")
            named = (e.split, e.dataset, e.category or "", e.object_id)
            writer.writerow([e.image, e.phrase, *e.box, *named, *size])
    assert list(read_expressions(tmp_path / "a.csv")) == written


def image(path: str, row: int = 0, size: tuple[int, int] = (100, 80)) -> ImageRow:
    return ImageRow(path, *size, 1, row, "")


def names_found(name: str, *paths: str) -> list[str] | Counter[str]:
    images = [image(path, row) for row, path in enumerate(paths)]
    resolved = resolve_images([Expression(name, "x", (0, 0, 10, 10))], images)
    return [row.path for _, row in resolved.pairs] or resolved.skipped


COCO = "COCO_train2014_000000123456.jpg"


@pytest.mark.parametrize(
    ("name", "paths", "found"),
    [
        ("/p/a.jpg", ["/p/a.jpg", "/q/a.jpg"], "/p/a.jpg"),
        ("q/a.jpg", ["/p/a.jpg", "/q/a.jpg"], "/q/a.jpg"),
        ("./q/a.jpg", ["/p/a.jpg", "/q/a.jpg"], "/q/a.jpg"),
        ("q\\a.jpg", ["/p/a.jpg", "/q/a.jpg"], "/q/a.jpg"),
        ("a.jpg", ["C:\\p\\a.jpg", "C:\\p\\ba.jpg"], "C:\\p\\a.jpg"),
        ("../p/./a.jpg", ["/p/a.jpg", "/q/a.jpg"], "/p/a.jpg"),
        ("p/caf\u00e9.jpg", ["/p/cafe\u0301.jpg"], "/p/cafe\u0301.jpg"),
        ("p/cafe\u0301.jpg", ["/p/caf\u00e9.jpg", "/q/cafe\u0301.jpg"], "/p/caf\u00e9.jpg"),
        (f"train2014/{COCO}", ["/d/train2014/000000123456.jpg"], "/d/train2014/000000123456.jpg"),
        (COCO, [f"/p/{COCO}"], f"/p/{COCO}"),
        (COCO.replace(".jpg", "_17.jpg"), [f"/p/{COCO}"], f"/p/{COCO}"),
        (COCO.replace(".jpg", "_17.jpg"), ["/p/000000123456.jpg"], "/p/000000123456.jpg"),
        (COCO, ["/p/000000123456.png", "/p/000000123457.png"], "/p/000000123456.png"),
        ("000000123456.jpg", [f"/p/{COCO}"], f"/p/{COCO}"),
    ],
)
def test_names_are_found_by_path_ending_file_and_coco_number(name, paths, found):
    assert names_found(name, *paths) == [found]


def test_names_that_match_no_image_or_several_are_refused():
    assert names_found("b.jpg", "/p/a.jpg") == {"image-not-in-index": 1}
    assert names_found("a.jpg", "/p/a.jpg", "/q/a.jpg") == {"ambiguous-name": 1}
    assert names_found("a.jpg", "/p/aa.jpg") == {"image-not-in-index": 1}
    assert names_found("elsewhere/a.jpg", "/p/a.jpg") == {"image-not-in-index": 1}
    assert names_found(f"val/{COCO}", "/train/000000123456.jpg") == {"image-not-in-index": 1}
    copies = [image("/p/a.jpg", 3), image("/q/a.jpg", 3)]
    assert len(resolve_images([Expression("a.jpg", "x", (0, 0, 10, 10))], copies)) == 1


def test_boxes_follow_the_size_of_the_indexed_image():
    expressions = [
        Expression("a.jpg", "whole", (0, 0, 640, 427), image_size=(640, 427)),
        Expression("a.jpg", "part", (64, 42.7, 128, 85.4), image_size=(640, 427)),
        Expression("a.jpg", "rotated", (0, 0, 10, 10), image_size=(427, 640)),
        Expression("a.jpg", "no size", (300, 200, 330, 230)),
        Expression("a.jpg", "beyond", (330, 200, 340, 230)),
    ]
    resolved = resolve_images(expressions, [image("/p/a.jpg", size=(320, 214))])
    assert resolved.positions == [0, 1, 3]
    whole, part, plain = (expression.box for expression, _ in resolved.pairs)
    assert whole == pytest.approx((0, 0, 320, 214))
    assert part == pytest.approx((32, 21.4, 64, 42.8), abs=1e-6)
    assert plain == (300, 200, 320, 214)
    assert resolved.skipped == {"aspect-ratio-differs": 1, "box-outside-image": 1}
    assert {expression.image_size for expression, _ in resolved.pairs} == {(320, 214)}


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("refs.jsonl", 1211),
        ("full/refcoco_full.jsonl.gz", 33046),
        ("full/refcocoplus_full.jsonl.gz", 21373),
        ("full/refcocog_full.jsonl.gz", 14498),
    ],
)
def test_published_expressions_are_read_completely(shared, name, count):
    read = read_expressions(shared(f"refs/{name}"))
    assert (len(read), read.skipped) == (count, Counter())
    # All are found in an index of photographs of half the size with the names of val2017.
    sizes = {e.image: e.image_size for e in read if e.image_size}
    images = [
        image(f"/photos/{name[-16:]}", row, (round(w / 2), round(h / 2)))
        for row, (name, (w, h)) in enumerate(sizes.items())
        if name.startswith("COCO")
    ]
    wanted = [e for e in read if e.image.startswith("COCO") and e.image in sizes]
    resolved = resolve_images(wanted, images)
    assert len(resolved) == len(wanted)
    for (found, row), expected in zip(resolved.pairs, wanted, strict=True):
        assert expected.image.endswith(row.path[-16:])
        assert found.box == pytest.approx([side / 2 for side in expected.box], rel=0.01, abs=1)
