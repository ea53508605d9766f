"""Hits in other libraries and as files: what is written is read back by the library itself."""

from __future__ import annotations

import csv
import io
import json
import pickle
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import COLORS, draw_squares
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import retrieval_grounding as rg
from retrieval_grounding import GroundingError, Hit, Hits
from retrieval_grounding.search.export.detections import fiftyone_samples
from retrieval_grounding.search.export.folders import file_name
from retrieval_grounding.search.export.tables import csv_bytes, parquet_bytes


@pytest.fixture
def hits(photos, tmp_path, models) -> Hits:
    """Four hits of two phrases on four photographs; the last is a whole image."""
    index = rg.build(photos, tmp_path / "index", options=rg.BuildOptions(progress=False), **models)
    return sum(index.query(["red", "a blue: square?"], top=2), Hits())


def test_an_answer_is_a_list_that_stays_one(hits):
    assert isinstance(hits, list)
    assert isinstance(hits[:2], Hits)
    assert isinstance(hits + hits[:1], Hits)
    assert isinstance(hits[0], Hit)
    assert hits == list(hits)
    assert json.loads(json.dumps([hit.as_dict() for hit in hits]))[0]["phrase"] == "red"
    assert pickle.loads(pickle.dumps(hits)) == hits  # noqa: S301
    assert isinstance(sorted(hits, key=lambda hit: hit.image), list)


def test_several_phrases_give_one_answer_each(photos, tmp_path, models):
    index = rg.build(photos, tmp_path / "index", options=rg.BuildOptions(progress=False), **models)
    answers = index.query(["red", "blue"])
    assert [type(answer) for answer in answers] == [Hits, Hits]
    assert type(rg.ground(photos / "a.png", ["red"], **models)) is Hits


def test_a_hit_knows_the_size_of_its_image_and_what_the_detector_thought(hits):
    assert {hit.image_size for hit in hits} == {(80, 60)}
    assert all(0 < hit.label_score <= 1 for hit in hits)


def test_reprs_are_short(hits):
    assert repr(hits[0]) == "<Hit 1.000 'red' in a.png, box 5 5 25 25>"
    many = Hits(list(hits) * 50)
    assert len(repr(many).splitlines()) == 11
    assert repr(many).endswith("… 190 more]")


def test_a_table_has_every_value_of_every_hit(hits):
    pytest.importorskip("pandas")
    frame = hits.to_frame()
    assert len(frame) == len(hits)
    boxes = frame[["x1", "y1", "x2", "y2"]].to_numpy()
    np.testing.assert_array_equal(boxes, [hit.box for hit in hits])
    assert frame["region_id"].tolist() == [hit.region_id for hit in hits]
    assert frame["probability"].isna().all()
    assert list(Hits().to_frame().columns) == list(frame.columns)


NAMES = st.text(
    st.characters(exclude_categories=("Cs",)) | st.sampled_from("\udcff\n\r\",;\t'="), max_size=9
)
MADE = st.builds(
    Hit,
    phrase=NAMES,
    image=NAMES,
    box=st.tuples(*[st.floats(0, 9000, width=32)] * 4),
    score=st.floats(-30, 30),
    probability=st.none() | st.floats(0, 1),
    label=NAMES,
    region_id=st.none() | st.integers(0, 2**62),
    image_size=st.none() | st.tuples(st.integers(1, 9000), st.integers(1, 9000)),
)


def escaped(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


@given(st.lists(MADE, max_size=4))
def test_csv_is_read_back_as_it_was(made):
    rows = list(csv.DictReader(io.StringIO(csv_bytes(made).decode("utf-8"), newline="")))
    assert len(rows) == len(made)
    for row, hit in zip(rows, made, strict=True):
        assert (row["phrase"], row["image"]) == (escaped(hit.phrase), escaped(hit.image))
        assert float(row["score"]) == hit.score
        assert row["region_id"] == ("" if hit.region_id is None else str(hit.region_id))


@settings(max_examples=25, deadline=None)  # the first example imports polars
@given(st.lists(MADE, max_size=4))
def test_parquet_is_read_back_as_it_was(made):
    polars = pytest.importorskip("polars")
    table = polars.read_parquet(io.BytesIO(parquet_bytes(made)))
    assert table["image"].to_list() == [escaped(hit.image) for hit in made]
    assert table["region_id"].to_list() == [hit.region_id for hit in made]
    assert table["x1"].to_list() == [hit.box[0] for hit in made]
    assert table["probability"].to_list() == [hit.probability for hit in made]
    assert table["image_width"].to_list() == [(hit.image_size or [None])[0] for hit in made]


def test_the_suffix_determines_the_format(hits, tmp_path):
    for suffix in ("csv", "parquet", "json"):
        hits.save(tmp_path / f"hits.{suffix}")
        assert (tmp_path / f"hits.{suffix}").stat().st_size
    with pytest.raises(GroundingError, match=r"\.csv, \.parquet, \.json"):
        hits.save(tmp_path / "hits.xlsx")
    assert not (tmp_path / "hits.xlsx").exists()


def test_coco_has_one_image_for_each_photograph(hits):
    coco = hits.to_coco()
    assert [category["name"] for category in coco["categories"]] == ["red", "a blue: square?"]
    assert len(coco["images"]) == len({hit.image for hit in hits}) < len(coco["annotations"])
    paths = {image["id"]: image["file_name"] for image in coco["images"]}
    for hit, annotation in zip(
        sorted(hits, key=lambda hit: list(paths.values()).index(hit.image)),
        coco["annotations"],
        strict=True,
    ):
        x, y, width, height = annotation["bbox"]
        assert (x, y, x + width, y + height) == hit.box
        assert paths[annotation["image_id"]] == hit.image


def test_pycocotools_reads_the_coco_file(hits, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    hits.save(tmp_path / "hits.json")
    data = coco.COCO(str(tmp_path / "hits.json"))
    assert len(data.getAnnIds()) == len(hits)
    [red] = data.loadCats(data.getCatIds(catNms=["red"]))
    assert len(data.getAnnIds(catIds=[red["id"]])) == 2


def test_sizes_of_hits_without_one_are_read(hits):
    bare = Hits(replace(hit, image_size=None) for hit in hits)
    assert bare.to_coco() == hits.to_coco()


def test_supervision_gets_the_boxes_of_each_photograph(hits):
    pytest.importorskip("supervision")
    found = hits.to_supervision()
    assert sum(map(len, found.values())) == len(hits)
    for path, detections in found.items():
        own = [hit for hit in hits if hit.image == path]
        np.testing.assert_array_equal(detections.xyxy, [hit.box for hit in own])
        assert detections.data["class_name"].tolist() == [hit.phrase for hit in own]


def test_fiftyone_gets_a_sample_for_each_photograph(hits):
    pytest.importorskip("fiftyone")
    samples = {sample.filepath: sample for sample in fiftyone_samples(hits)}
    assert sorted(samples) == sorted({hit.image for hit in hits})
    for hit in hits:
        [found] = [
            found for found in samples[hit.image].hits.detections if found.label == hit.phrase
        ]
        x, y, width, height = found.bounding_box
        np.testing.assert_allclose([x, y, x + width, y + height], np.divide(hit.box, (80, 60) * 2))


def test_fiftyone_keeps_the_samples(hits):
    fiftyone = pytest.importorskip("fiftyone")
    try:
        dataset = hits.to_fiftyone()
    except fiftyone.core.config.FiftyOneConfigError:
        pytest.skip("fiftyone needs a MongoDB server, which is not installed")
    labels = [hit.label for sample in dataset for hit in sample.hits.detections]
    assert sorted(labels) == sorted(hit.phrase for hit in hits)
    fiftyone.delete_dataset(dataset.name)


@pytest.mark.parametrize(
    ("method", "library"),
    [("to_frame", "pandas"), ("to_supervision", "supervision"), ("to_fiftyone", "fiftyone")],
)
def test_a_library_that_is_not_installed_is_named(hits, method, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(GroundingError, match=f"pip install {library}"):
        getattr(hits, method)()


def test_ultralytics_trains_on_what_was_written(hits, tmp_path):
    assert hits.save_yolo(tmp_path / "yolo") == []
    from ultralytics.data import build_yolo_dataset
    from ultralytics.data.utils import check_det_dataset

    data = check_det_dataset(str(tmp_path / "yolo" / "data.yaml"), autodownload=False)
    assert list(data["names"].values()) == ["red", "a blue: square?"]
    from ultralytics.cfg import get_cfg

    loaded = build_yolo_dataset(get_cfg(), data["train"], 1, data, mode="val")
    boxes = {}
    for label in loaded.labels:
        centers = label["bboxes"] * np.tile(label["shape"][::-1], 2)
        middles, halves = centers[:, :2], centers[:, 2:] / 2
        corners = np.hstack([middles - halves, middles + halves])
        names = [data["names"][int(number)] for number in label["cls"].ravel()]
        boxes[Path(label["im_file"]).stem] = list(zip(names, corners, strict=True))
    assert sum(map(len, boxes.values())) == len(hits)
    for hit in hits:
        own = boxes[Path(hit.image).stem]
        assert any(
            name == hit.phrase and np.allclose(box, hit.box, atol=0.01) for name, box in own
        ), hit


def test_crops_show_the_regions(hits, tmp_path):
    assert hits.save_crops(tmp_path / "crops") == []
    names = sorted(str(path.relative_to(tmp_path / "crops")) for path in tmp_path.glob("crops/*/*"))
    assert names == [
        "a blue square/001 c.jpg", "a blue square/002 d.jpg", "red/001 a.jpg", "red/002 c.jpg",
    ]  # fmt: skip
    with Image.open(tmp_path / "crops" / "red" / "001 a.jpg") as crop:
        assert crop.size == (20, 20)
        color = np.asarray(crop).reshape(-1, 3).mean(0)
    np.testing.assert_allclose(color, COLORS["red"], atol=12)


def test_an_archive_has_the_same_files_as_a_folder(hits, tmp_path):
    hits.save_crops(tmp_path / "crops")
    hits.save_crops(tmp_path / "crops.zip")
    hits.save_crops(tmp_path / "crops.zip")  # replaces it
    with zipfile.ZipFile(tmp_path / "crops.zip") as archive:
        assert archive.testzip() is None
        for name in archive.namelist():
            assert archive.read(name) == (tmp_path / "crops" / name).read_bytes()
        assert len(archive.namelist()) == len(hits)
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("save", ["save_crops", "save_yolo"])
def test_a_folder_with_files_is_not_touched(hits, tmp_path, save):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(GroundingError, match="has files in it; name a new one"):
        getattr(hits, save)(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(GroundingError, match="cannot write"):
        getattr(hits, save)(tmp_path / "file")


@pytest.mark.parametrize("save", ["save_crops", "save_yolo"])
def test_photographs_that_changed_or_are_gone_are_left_out_and_named(hits, photos, tmp_path, save):
    (photos / "c.png").unlink()
    draw_squares(photos / "a.png", {"yellow": (0, 0, 60, 60)})  # never indexed
    skipped = getattr(hits, save)(tmp_path / "out")
    assert {Path(file.path).name: file.reason for file in skipped} == {
        "a.png": "changed",
        "c.png": "missing",
    }
    assert [path.stem[-1] for path in (tmp_path / "out").rglob("*.jpg")] == ["d"]


@pytest.mark.parametrize("save", ["save_crops", "save_yolo"])
def test_files_of_equal_names_are_all_written(hits, tmp_path, photos, save):
    for folder in ("one", "ONE"):
        (tmp_path / folder).mkdir()
        for name in ("a.png", "A.png"):
            (tmp_path / folder / name).write_bytes((photos / "a.png").read_bytes())
    paths = [tmp_path / folder / name for folder in ("one", "ONE") for name in ("a.png", "A.png")]
    made = [replace(hits[0], image=str(path), phrase=path.parent.name) for path in paths]
    getattr(Hits(made * 2), save)(tmp_path / "out")
    written = list((tmp_path / "out").rglob("*.jpg"))
    count = 8 if save == "save_crops" else 4
    assert len({str(path.relative_to(tmp_path)).casefold() for path in written}) == count


@given(st.text(max_size=200))
def test_names_of_files_are_names_of_files(text):
    name = file_name(text)
    assert 0 < len(name.encode("utf-8", "surrogateescape")) <= 240
    assert not set(name) & set('/\\:*?"<>|\n\0')
    assert name.strip(". ") == name
