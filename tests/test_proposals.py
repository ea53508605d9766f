"""``evaluate --proposals``: detectors side by side, by the number of boxes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fakes import ColorEncoder, SquareDetector, draw_squares
from typer.testing import CliRunner

import retrieval_grounding as rg
from retrieval_grounding.cli.app import app
from retrieval_grounding.evaluation.proposal_report import COUNTS
from retrieval_grounding.models.embedded import embedded_regions

QUIET = rg.BuildOptions(progress=False, workers=1)


class Blurred:
    """Sees squares too, but puts four wrong boxes before the right ones, and a group behind."""

    fingerprint = "blurred 1"

    def detect(self, images):
        found = []
        for regions, image in zip(SquareDetector().detect(images), images, strict=True):
            wrong = rg.Regions([[70 + n, 50, 79, 59] for n in range(4)], [0.99] * 4, ["red"] * 4)
            group = rg.Regions([[0, 0, *image.size]], [0.95], ["red group"])
            found.append(rg.Regions.concatenate([regions[:1], wrong, regions[1:], group]))
        return found


@pytest.fixture
def collection(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    lines = []
    rng = np.random.default_rng(0)
    for number in range(6):
        x, y = rng.integers(0, 20), rng.integers(0, 20)
        boxes = {"red": (x, y, x + 20, y + 20), "blue": (x + 30, y + 10, x + 50, y + 30)}
        draw_squares(photos / f"{number}.png", {k: tuple(map(int, v)) for k, v in boxes.items()})
        for name, (x1, y1, x2, y2) in boxes.items():
            box = [int(x1), int(y1), int(x2 - x1), int(y2 - y1)]
            lines.append(
                {"image": f"{number}.png", "expression": f"the {name} one", "bbox_xywh": box}
            )
    refs = tmp_path / "refs.jsonl"
    refs.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    index = rg.build(
        photos, tmp_path / "index", detector=SquareDetector(), clip=ColorEncoder(), options=QUIET
    )
    return index, refs, photos


def test_recall_and_accuracy_by_number_of_boxes(collection):
    index, refs, _ = collection
    report = index.compare_detectors(
        refs, {"same": SquareDetector(), "blurred": Blurred()}, matcher="cosine"
    )
    own, same, blurred = report.curves
    assert (report.expressions, report.images) == (12, 6)
    assert [curve.name for curve in report.curves] == ["index", "same", "blurred"]
    at = COUNTS.index
    # One of two squares is first; from the second box on, both are found, and chosen by color.
    assert [e.value for e in own.recall][:2] == [0.5, 1.0]
    assert [e.value for e in own.accuracy][:2] == [0.5, 1.0]
    assert own.recall_gain is None
    assert [e.value for e in same.recall] == [e.value for e in own.recall]
    assert [e.value for e in same.accuracy] == [e.value for e in own.accuracy]
    assert all(gain.value == gain.low == gain.high == 0 for gain in same.recall_gain)
    # Four wrong boxes first; the group counts as no box, though it is before the squares.
    assert blurred.boxes == 6
    assert blurred.recall[at(3)].value == 0 and blurred.recall[at(10)].value == 1
    assert blurred.recall[at(5)].value == 0.5
    assert blurred.recall_gain[at(3)].value == -1
    assert [table.rows[-1][0] for table in report.tables()] == ["blurred"] * 3


def test_images_that_cannot_be_read_are_left_out_for_all(collection):
    index, refs, photos = collection
    (photos / "0.png").unlink()
    draw_squares(photos / "1.png", {"green": (5, 5, 25, 25)})
    report = index.compare_detectors(refs, {"same": SquareDetector()}, matcher="cosine")
    assert (report.expressions, report.images) == (8, 4)
    assert report.skipped == {"missing": 2, "changed": 2}
    for path in photos.iterdir():
        path.unlink()
    with pytest.raises(rg.ExpressionError, match="bring the files back"):
        index.compare_detectors(refs, {"same": SquareDetector()}, matcher="cosine")


def test_embedded_regions_are_those_of_an_index(collection):
    """What a detector's boxes get here is what `build` would have stored."""
    index, _, photos = collection
    image = rg.load_image(photos / "2.png")
    [regions] = SquareDetector().detect([image])
    embeddings = ColorEncoder().encode_regions([image], [regions])
    table = embedded_regions(ColorEncoder(), image, regions, embeddings)
    [stored] = [i for i in index.images() if i.path.endswith("2.png")]
    from retrieval_grounding.storage.region_store import RegionStore

    kept = RegionStore(index._catalog).gather([(stored.shard, stored.row)])
    assert np.allclose(table.embeddings, kept.embeddings, atol=1e-3)
    assert np.array_equal(table.boxes, kept.boxes)
    assert np.array_equal(table.colors, kept.colors)
    assert [table.label(n) for n in range(3)] == [kept.label(n) for n in range(3)]


def test_the_command_compares_named_detectors(shared, tmp_path):
    photos, refs = shared("refs/images"), shared("refs/refs.jsonl")
    lines = [json.loads(line) for line in refs.read_text("utf-8").splitlines()]
    chosen = sorted({line["image"] for line in lines})[:3]
    index = str(tmp_path / "index")
    rg.build([photos / name for name in chosen], index, options=QUIET).close()
    yolo = str(shared("weights/yolo11n-coco-dequantized.pt"))
    arguments = ["evaluate", index, "--refs", str(refs), "--proposals", yolo]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["counts"] == list(COUNTS)
    _, other = report["curves"]
    assert other["name"] == yolo
    recall = [estimate["value"] for estimate in other["recall"]]
    assert recall == sorted(recall) and recall[-1] > 0.2
    shown = CliRunner().invoke(app, arguments)
    assert "Recall@0.5 by boxes an image" in shown.stdout
    assert "Gain over the boxes of the index" in shown.stdout


def test_options_that_do_not_go_together(collection):
    index, refs, _ = collection
    arguments = ["evaluate", str(index.directory), "--refs", str(refs), "--proposals", "nano"]
    two = CliRunner().invoke(app, [*arguments, "--matcher", "cosine", "--matcher", "cosine+label"])
    page = CliRunner().invoke(app, [*arguments, "--html", "page.html"])
    assert two.exit_code == page.exit_code == 2
