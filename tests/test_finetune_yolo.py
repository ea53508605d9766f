"""Fine-tuning YOLO: what it learns from, that it resumes exactly, and what it leaves behind."""

from __future__ import annotations

import json
import random
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import make_scenes, write_jsonl, write_scenes
from typer.testing import CliRunner

import retrieval_grounding as rg
from retrieval_grounding.cli.app import app
from retrieval_grounding.core.bootstrap import Estimate
from retrieval_grounding.data.coco import read_coco
from retrieval_grounding.finetuning.run_folder import RunFolder
from retrieval_grounding.finetuning.yolo import run as yolo_run
from retrieval_grounding.finetuning.yolo.boxed_images import BoxedImage
from retrieval_grounding.finetuning.yolo.network import with_classes
from retrieval_grounding.finetuning.yolo.options import YoloTuningOptions
from retrieval_grounding.finetuning.yolo.recall import OracleGain, compare_overlap, compare_recall
from retrieval_grounding.finetuning.yolo.run import finetune_yolo
from retrieval_grounding.finetuning.yolo.targets import make_targets, target_names
from retrieval_grounding.models._quiet import quiet_libraries
from retrieval_grounding.models.presets import bundled_path
from retrieval_grounding.models.yolo_checkpoint import load_yolo

SMALL = YoloTuningOptions(epochs=2, batch_images=4, image_size=64, progress=False)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A folder of six scenes with their expressions."""
    folder = tmp_path_factory.mktemp("yolo")
    lines = write_scenes(make_scenes(4, 0), folder / "images", "train")
    lines += write_scenes(make_scenes(2, 1), folder / "images", "val")
    write_jsonl(lines, folder / "refs.jsonl")
    return folder


@pytest.fixture
def sealed(monkeypatch):
    """Refuse the network."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("something asked for the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def tune(scenes, output, **changes):
    arguments = {"refs": scenes / "refs.jsonl", "held_out": ["val"], "options": SMALL} | changes
    return finetune_yolo(scenes / "images", output, **arguments)


def weights(path):
    with quiet_libraries():
        return torch.load(path, weights_only=False)["model"].state_dict()


@pytest.fixture(autouse=True)
def keep(monkeypatch):
    """Two epochs on four scenes prove nothing: take what comes as the better one."""

    def better(images, before, after):
        gains = compare_recall(images, before, after)
        all_found = Estimate(2.0, 2.0, 2.0)
        return [type(gain)(gain.boxes, gain.before, all_found, gain.gain) for gain in gains]

    for name in ("compare_recall", "compare_overlap"):
        monkeypatch.setattr(yolo_run, name, better)


# What there is to find ---------------------------------------------------------------------------


def boxed(boxes, categories):
    return BoxedImage("hash", (100, 100), np.array(boxes, np.float32), tuple(categories), "")


def test_what_the_detector_is_sure_of_is_kept_beside_what_is_referred_to():
    image = boxed([[0, 0, 20, 20], [50, 50, 90, 90]], ["cup", ""])
    found = rg.Regions(
        [[1, 1, 20, 20], [50, 50, 88, 90], [30, 0, 50, 20], [70, 0, 90, 20]],
        [0.9, 0.8, 0.7, 0.1],
        ["bowl", "dog", "cat", "bird"],
    )
    targets = make_targets(image, found, class_agnostic=False)
    # The cup stays a cup; the nameless box is a dog; the cat stays; the bird is too uncertain.
    assert targets.names == ("cup", "dog", "cat")
    assert targets.boxes.tolist() == [[0, 0, 20, 20], [50, 50, 90, 90], [30, 0, 50, 20]]
    assert targets.referred == 2
    assert target_names(["dog", "cat"], {"a": targets}, False) == ["dog", "cat", "cup"]
    agnostic = make_targets(image, found, class_agnostic=True)
    assert agnostic.names == ("object",) * 3
    assert target_names(["dog", "cat"], {"a": agnostic}, True) == ["object"]


def test_a_box_that_nothing_is_seen_in_is_an_object():
    targets = make_targets(boxed([[0, 0, 9, 9]], [""]), rg.Regions([], [], []), False)
    assert targets.names == ("object",)


def test_known_classes_keep_their_scores_and_new_ones_start_from_the_mean():
    yolo = load_yolo(bundled_path("detector"))
    own = list(yolo.names.values())
    changed = with_classes(yolo.model, own, ["cup", "a new thing", "dog"], "nano").eval()
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        old = yolo.model(pixels)[0][0, 4:].logit(eps=1e-7)
        new = changed(pixels)[0][0, 4:].logit(eps=1e-7)
    assert torch.allclose(new[0], old[own.index("cup")], atol=1e-2)
    assert torch.allclose(new[2], old[own.index("dog")], atol=1e-2)
    assert torch.allclose(new[1], old.mean(0), atol=0.5)
    assert yolo.model.model[-1].nc == 80  # the original is as it was


def test_recall_counts_the_first_boxes_and_is_paired():
    images = [boxed([[0, 0, 10, 10], [20, 20, 40, 40]], ["", ""])] * 2
    far = [[60, 60, 70, 70]] * 10
    late = rg.Regions([*far, [0, 0, 10, 10]], np.linspace(0.9, 0.1, 11), ["x"] * 11)
    both = rg.Regions([[0, 0, 10, 10], [20, 20, 39, 40]], [0.9, 0.8], ["x"] * 2)
    at10, at30, _ = compare_recall(images, [late, late], [both, both])
    assert (at10.before.value, at30.before.value, at10.after.value) == (0, 0.5, 1)
    assert (at10.gain.value, at30.gain.value) == (1, 0.5)
    assert at30.gain.low == at30.gain.high == 0.5
    tight10, tight30, _ = compare_overlap(images, [late, late], [both, both])
    assert (tight10.before.value, tight30.before.value) == (0, 0.5)
    assert tight10.after.value == pytest.approx((1 + 0.95) / 2)


def test_tighter_boxes_are_better_unless_less_is_found(scenes, tmp_path, monkeypatch):
    def gains(before, after):
        found = [Estimate(value, value, value) for value in (before, *after)]
        return lambda *_: [
            OracleGain(boxes, found[0], new, found[0])
            for boxes, new in zip((10, 30, 50), found[1:], strict=True)
        ]

    monkeypatch.setattr(yolo_run, "train_network", lambda *a: (a[2], [1.0]))
    monkeypatch.setattr(yolo_run, "compare_recall", gains(0.9, (0.9, 0.9, 0.9)))
    monkeypatch.setattr(yolo_run, "compare_overlap", gains(0.7, (0.8, 0.8, 0.8)))
    assert not tune(scenes, tmp_path / "a.pt").kept_original
    # More with 10 boxes does not make up for less with 30.
    monkeypatch.setattr(yolo_run, "compare_recall", gains(0.9, (0.95, 0.899, 0.9)))
    assert tune(scenes, tmp_path / "b.pt").reason == "recall@0.5 of 30 boxes falls"
    monkeypatch.setattr(yolo_run, "compare_recall", gains(0.9, (0.95, 0.95, 0.95)))
    monkeypatch.setattr(yolo_run, "compare_overlap", gains(0.7, (0.7, 0.7, 0.7)))
    assert tune(scenes, tmp_path / "c.pt").reason == "the IoU of the best boxes does not rise"


# A run -------------------------------------------------------------------------------------------


def test_the_result_is_an_ordinary_checkpoint(scenes, tmp_path, sealed, monkeypatch):
    monkeypatch.chdir(tmp_path)
    home = {path: path.stat().st_mtime_ns for path in Path.home().rglob("*Ultralytics*/*")}
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    report = tune(scenes, "models/mine.pt")
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected
    assert not torch.are_deterministic_algorithms_enabled()
    assert not report.kept_original
    assert report.images == (4, 2) and report.classes >= 80 and len(report.losses) == 2
    assert [p.relative_to(tmp_path) for p in tmp_path.rglob("*")] == [
        Path("models"), Path("models/mine.pt"),
    ]  # fmt: skip
    assert home == {path: path.stat().st_mtime_ns for path in Path.home().rglob("*Ultralytics*/*")}
    assert str(tmp_path).encode() not in (tmp_path / "models/mine.pt").read_bytes()

    from ultralytics import YOLO

    with quiet_libraries():
        names = YOLO("models/mine.pt").names
    detector = rg.load_detector(str(tmp_path / "models/mine.pt"))
    assert detector.class_names == names and "object" in names.values()
    assert detector.image_size == 64
    image = rg.load_image(scenes / "images" / "val_0000.png")
    assert len(detector.detect([image])[0]) >= 1


class Killed(BaseException):
    pass


def test_a_killed_run_resumes_to_the_same_weights(scenes, tmp_path, monkeypatch):
    options = YoloTuningOptions(**{**vars(SMALL), "class_agnostic": True})
    tune(scenes, tmp_path / "whole.pt", options=options)
    save_state = RunFolder.save_state

    def die_after(self, name, state):
        save_state(self, name, state)
        if len(state["losses"]) == deaths[-1]:
            deaths.pop()
            raise Killed

    deaths = [0, 1]
    monkeypatch.setattr(RunFolder, "save_state", die_after)
    with pytest.raises(Killed):
        tune(scenes, tmp_path / "parts.pt", options=options)
    assert not (tmp_path / "parts.pt").exists()
    tune(scenes, tmp_path / "parts.pt", options=options)
    whole, parts = weights(tmp_path / "whole.pt"), weights(tmp_path / "parts.pt")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    start = load_yolo(bundled_path("detector")).model.state_dict()
    changed = [name for name in start if not torch.equal(whole[name].float(), start[name])]
    assert len(changed) > 50


def test_other_options_do_not_continue_a_run(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(yolo_run, "train_network", lambda *_: (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        tune(scenes, tmp_path / "a.pt")
    with pytest.raises(rg.GroundingError, match="unfinished run with another image size"):
        tune(scenes, tmp_path / "a.pt", options=YoloTuningOptions(image_size=96, progress=False))


def test_a_worse_detector_is_not_written(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(yolo_run, "compare_recall", compare_recall)
    monkeypatch.setattr(yolo_run, "compare_overlap", compare_overlap)
    monkeypatch.setattr(yolo_run, "train_network", lambda *a: (spoiled(a[2]), [1.0]))
    refs = scenes / "refs.jsonl"
    arguments = ["finetune", "yolo", str(scenes / "images"), "-o", str(tmp_path / "a.pt"),
                 "--held-out", "val", "--image-size", "224", "--refs", str(refs)]  # fmt: skip
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "the IoU of the best boxes does not rise" in done.stderr
    assert not (tmp_path / "a.pt").exists()


def spoiled(network):
    with torch.no_grad():
        for branch in network.model[-1].cv3:
            branch[-1].bias.fill_(-20)
    return network


def test_a_destructive_rate_is_refused(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(yolo_run, "compare_recall", compare_recall)
    monkeypatch.setattr(yolo_run, "compare_overlap", compare_overlap)
    destructive = YoloTuningOptions(
        epochs=2, batch_images=2, image_size=224, lr=1.0, progress=False
    )
    report = tune(scenes, tmp_path / "a.pt", options=destructive)
    assert report.kept_original
    assert report.recall[0].before.value > 0.5  # there was something to lose
    assert report.recall[0].after.value < report.recall[0].before.value
    assert not (tmp_path / "a.pt").exists()


def test_a_training_that_diverges_is_told(scenes, tmp_path, monkeypatch):
    def poisoned(*arguments):
        network = with_classes(*arguments)
        next(network.parameters()).data.fill_(float("inf"))
        return network

    monkeypatch.setattr(yolo_run, "with_classes", poisoned)
    report = tune(scenes, tmp_path / "a.pt")
    assert report.reason == "training diverged"
    assert not (tmp_path / "a.pt").exists()


# Boxes in COCO's format --------------------------------------------------------------------------


def coco_file(folder):
    content = {
        "images": [
            {"id": number, "file_name": f"{split}_{number:04d}.png", "width": 224, "height": 224}
            for split, number in [("train", 0), ("train", 1), ("train", 2), ("train", 3)]
        ],
        "annotations": [
            {"image_id": n, "bbox": [10, 10, 40, 40], "category_id": 7, "iscrowd": 0}
            for n in range(4)
        ] + [
            {"image_id": 0, "bbox": [1, 1, 90, 90], "category_id": 7, "iscrowd": 1},
            {"image_id": 99, "bbox": [1, 1, 9, 9], "category_id": 7},
            {"image_id": 0, "bbox": [300, 1, 9, 9], "category_id": 7},
        ],
        "categories": [{"id": 7, "name": "zebra  crossing"}],
    }  # fmt: skip
    path = folder / "boxes.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_boxes_of_a_coco_file(tmp_path):
    found = read_coco(coco_file(tmp_path))
    assert len(found) == 4
    assert found.skipped == {"crowd": 1, "no-image-name": 1, "bad-box": 1}
    assert found.expressions[0].box == (10, 10, 50, 50)
    assert found.expressions[0].category == "zebra crossing"


def test_categories_become_classes(scenes, tmp_path):
    report = tune(
        scenes, tmp_path / "a.pt", refs=None, boxes=coco_file(tmp_path), held_out=(),
        options=YoloTuningOptions(**{**vars(SMALL), "epochs": 1}),
    )  # fmt: skip
    names = rg.load_detector(str(tmp_path / "a.pt")).class_names.values()
    assert "zebra crossing" in names and len(names) == report.classes


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ("id", "file_name", "image_id", "bbox", "category_id", "name", "iscrowd")
ENTRY = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON))
KEYS = ("images", "annotations", "categories")


@settings(max_examples=60, deadline=None)
@given(content=JSON | st.fixed_dictionaries({k: JSON | st.lists(ENTRY, max_size=3) for k in KEYS}))
def test_damaged_coco_files_raise_only_our_errors(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "coco.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    try:
        found = read_coco(path)
    except rg.ExpressionError:
        return
    assert all(e.box[2] > e.box[0] and e.box[3] > e.box[1] for e in found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--refs", "no.jsonl"], "does not exist"),
        ([], "name either --refs or --boxes"),
        (["--boxes", "no.json"], "cannot be read"),
        (["--refs", "refs.jsonl", "-o", "model.onnx"], "ends in .pt"),
        (["--refs", "refs.jsonl", "--detector", "no.pt"], "there is no file"),
    ],
)
def test_mistakes_are_one_sentence(scenes, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(scenes)
    output = [] if "-o" in arguments else ["-o", str(tmp_path / "a.pt")]
    done = CliRunner().invoke(app, ["finetune", "yolo", "images", *output, *arguments])
    assert done.exit_code != 0
    shown = " ".join(done.output.replace("│", " ").split()) + str(done.exception)
    assert message in shown
    assert not (tmp_path / "a.pt").exists()


def test_open_vocabularies_and_segmentation_are_not_trained(tmp_path, scenes):
    from ultralytics import YOLO

    with quiet_libraries(), torch.random.fork_rng(devices=[]):
        YOLO("yolo11n-seg.yaml", task="segment").save(tmp_path / "seg.pt")
    with pytest.raises(rg.ModelError, match=r"seg\.pt is not a YOLO detector with fixed classes"):
        tune(scenes, tmp_path / "a.pt", detector=str(tmp_path / "seg.pt"))
