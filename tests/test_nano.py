"""The bundled models, end to end, through the command line, on photographs of dependencies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import retrieval_grounding as rg
from retrieval_grounding.cli.app import app
from retrieval_grounding.cli.demo import demo_photographs
from retrieval_grounding.storage.shards import ShardReader

# Hand-drawn boxes; each phrase means one thing in the five photographs.
TRUTH = {
    "a bus": ("bus.jpg", (0, 230, 805, 745)),
    "two men in suits": ("zidane.jpg", (125, 40, 1155, 716)),
    "a temple": ("china.jpg", (64, 27, 370, 420)),
}


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "retrieval_grounding", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> rg.Index:
    folder = tmp_path_factory.mktemp("nano") / "index"
    return rg.build(demo_photographs(), folder, options=rg.BuildOptions(progress=False))


@pytest.mark.parametrize("phrase", TRUTH)
def test_a_phrase_finds_its_photograph_and_box(index, phrase):
    file, box = TRUTH[phrase]
    [hit] = index.query(phrase, top=1)
    assert Path(hit.image).name == file
    (x1, y1, x2, y2), (left, top, right, bottom) = hit.box, box
    inside = max(0, min(x2, right) - max(x1, left)) * max(0, min(y2, bottom) - max(y1, top))
    is_part = inside >= 0.9 * (x2 - x1) * (y2 - y1)  # of a temple, the upper floors will do
    assert is_part or rg.pairwise_iou([hit.box], [box])[0, 0] >= 0.45


def test_a_folder_called_nano_is_not_taken_for_the_preset(tmp_path, monkeypatch):
    (tmp_path / "nano").mkdir()
    monkeypatch.chdir(tmp_path)
    assert rg.ground(demo_photographs()[0], "a bus").label != ""


def test_grounding_gives_the_box_of_the_index(index):
    [hit] = index.query("a bus", top=1)
    alone = rg.ground(hit.image, "a bus")
    assert alone.label == hit.label
    np.testing.assert_allclose(alone.box, hit.box, atol=0.01)
    assert alone.score == pytest.approx(hit.score, abs=2e-2)


@pytest.mark.slow
def test_batches_do_not_change_what_is_stored(index, tmp_path):
    options = rg.BuildOptions(batch_images=1, workers=1, progress=False)
    other = rg.build(demo_photographs(), tmp_path / "other", options=options)
    for first, second in zip(index.query(list(TRUTH)), other.query(list(TRUTH)), strict=True):
        assert [hit.image for hit in first] == [hit.image for hit in second]
        np.testing.assert_allclose([h.box for h in first], [h.box for h in second], atol=0.01)
        probabilities = [[hit.probability for hit in hits] for hits in (first, second)]
        assert probabilities[0] == pytest.approx(probabilities[1], abs=2e-3)
    # Stored as float16, whose steps are 2**-11 of a value; other batches sum in another order.
    np.testing.assert_allclose(stored_embeddings(index), stored_embeddings(other), atol=2e-3)


def stored_embeddings(index: rg.Index) -> np.ndarray:
    [shard] = (Path(index.directory) / "shards").glob("*.h5")
    return ShardReader(shard, 1).embeddings.astype(np.float32)


def test_the_bundled_weights_are_small_and_found_by_name():
    folder = Path(rg.__file__).parent / "models" / "weights"
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 30_000_000
    assert rg.load_detector("nano").class_names[0] == "person"
    assert rg.load_encoder("nano").dimension == rg.load_encoder("nano").encode_phrases("a").shape[1]


@pytest.mark.slow
def test_a_photograph_rotated_by_exif_gives_upright_boxes(tmp_path):
    with Image.open(demo_photographs()[0]) as image:
        upright = image.convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "rotated.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    rotated, expected = (
        rg.ground(tmp_path / name, "a bus") for name in ("rotated.png", "upright.png")
    )
    np.testing.assert_allclose(rotated.box, expected.box, atol=0.01)


@pytest.mark.slow
def test_the_command_line_from_photographs_to_a_page(tmp_path):
    photos, index = tmp_path / "photos", tmp_path / "index"
    photos.mkdir()
    for path in demo_photographs()[:3]:
        (photos / Path(path).name).write_bytes(Path(path).read_bytes())
    (photos / "broken.jpg").write_bytes(Path(demo_photographs()[0]).read_bytes()[:5000])
    built = run("build", photos, "--index", index, "--json")
    assert built.returncode == 0, built.stderr
    report = json.loads(built.stdout)
    assert (report["added"], [file["reason"] for file in report["skipped"]]) == (3, ["truncated"])
    done = CliRunner().invoke(app, ["build", str(photos), "--index", str(index), "--json"])
    again = json.loads(done.stdout)
    assert (again["added"], again["unchanged"]) == (0, 3)
    found = run("query", index, "a bus", "--top", 2, "--json", "--html", tmp_path / "page.html")
    assert found.returncode == 0, found.stderr
    [answer] = json.loads(found.stdout)
    hits = answer["hits"]
    assert answer["phrase"] == "a bus"
    assert Path(hits[0]["image"]).name == "bus.jpg"
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("data:image/jpeg") == len(
        {hit["image"] for hit in hits}
    )
    grounded = run("ground", photos / "bus.jpg", "a bus", "--json", "--save", tmp_path / "out.png")
    assert grounded.returncode == 0, grounded.stderr
    np.testing.assert_allclose(
        json.loads(grounded.stdout)[0]["hits"][0]["box"], hits[0]["box"], atol=0.01
    )
    with Image.open(tmp_path / "out.png") as drawn:
        assert drawn.size == (810, 1080)
    facts = json.loads(run("info", index, "--json").stdout)
    assert (facts["images"], facts["skipped"], facts["preset"]) == (3, 1, "nano")
    mismatch = run("build", photos, "--index", index, "--confidence", 0.3)
    assert mismatch.returncode == 1
    assert "was built with DetectorSettings(confidence=0.05" in mismatch.stderr


@pytest.mark.slow
def test_demo_runs_from_the_command_line(tmp_path):
    done = run("demo", "--output", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["answers"]) == 8
    assert (tmp_path / "demo.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo11n", "yolov5nu"])
def test_a_different_detector_by_path(shared, tmp_path, name):
    weights = shared(f"weights/{name}-coco-dequantized.pt")
    photos = [shared(f"coco_val128/images/{n:012}.jpg") for n in (139, 285, 632)]
    index = rg.build(
        photos, tmp_path / "index", detector=str(weights), options=rg.BuildOptions(progress=False)
    )
    [hit] = index.query("a bear", top=1)
    assert Path(hit.image).name == "000000000285.jpg"
    with pytest.raises(rg.ModelError, match="was built with the detector"):
        extra = shared("coco_val128/images/000000000724.jpg")
        rg.build(extra, tmp_path / "index", detector="nano")
