"""Open-vocabulary detectors: published architectures with random weights, and what is refused."""

from __future__ import annotations

import json
import socket

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import retrieval_grounding as rg
from retrieval_grounding.cli.app import app
from retrieval_grounding.models import open_vocabulary
from retrieval_grounding.models._quiet import quiet_libraries
from retrieval_grounding.models.encoder import Fingerprint
from retrieval_grounding.models.open_vocabulary import write_vocabulary
from retrieval_grounding.models.yolo_checkpoint import save_yolo

pytestmark = pytest.mark.filterwarnings("ignore")

SEVERAL = rg.DetectorSettings(confidence=0, max_boxes=20, image_size=64)
SIZE = 512


def choose(settings, **changes):
    return rg.DetectorSettings(**{**vars(settings), **changes})


def unit_vectors(count, seed=0):
    vectors = torch.randn(count, SIZE, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vectors, dim=-1)[None]


def make(config, names, *, embeddings=True, prompt_free=False):
    """Return a network of a published architecture; scores of random weights are spread out."""
    from ultralytics.nn.tasks import WorldModel, YOLOESegModel

    with quiet_libraries(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        kind = WorldModel if "world" in config else YOLOESegModel
        network = kind(config, nc=len(names), verbose=False).train()
        for module in network.modules():  # as after training: every layer's output varies
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        with torch.no_grad():
            network(torch.rand(4, 3, 64, 64))
        network.eval()
        network.args = {"imgsz": 64}
        network.task = "detect" if "world" in config else "segment"
        network.names = dict(enumerate(names))
        for module in network.model[-1].cv4:
            module.bias.data.fill_(0.0)
        if kind is WorldModel:
            network.txt_feats = unit_vectors(len(names))
        elif embeddings:
            network.set_classes(list(names), unit_vectors(len(names)))
        if prompt_free:
            head = network.model[-1]
            with torch.no_grad():
                head.fuse(network.pe)
                network.set_vocab(torch.nn.ModuleList(c[-1] for c in head.cv3), list(names))
                for part in head.lrpc:  # or else all scores are 1
                    part.vocab.weight.mul_(0.02)
    return network


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """One file of each kind; the prompt-free one has as many names as the published ones."""
    folder = tmp_path_factory.mktemp("open")
    many = [f"thing {number}" for number in range(4585)]
    few = ["cup", "mug", "plate", "person"]
    kinds = {
        "prompt-free": ("yoloe-11s-seg.yaml", many, {"prompt_free": True}),
        "world": ("yolov8s-world.yaml", few, {}),
        "worldv2": ("yolov8s-worldv2.yaml", few, {}),
        "yoloe": ("yoloe-11s-seg.yaml", few, {}),
        "nameless": ("yoloe-11s-seg.yaml", few, {"embeddings": False}),
    }
    for kind, (config, names, options) in kinds.items():
        save_yolo(make(config, names, **options), folder / f"{kind}.pt", 64)
    return folder


@pytest.fixture
def photo():
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("something asked for the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("kind", ["prompt-free", "world", "worldv2", "yoloe"])
def test_labels_come_from_the_vocabulary(checkpoints, photo, no_network, kind):
    detector = rg.load_detector(str(checkpoints / f"{kind}.pt"), SEVERAL)
    known = set(detector.class_names.values())
    [found] = detector.detect([photo])
    assert len(found) > 1
    assert set(found.labels[1:]) <= known | {f"{name} group" for name in known}
    [again] = detector.detect([photo, photo.rotate(90)])[:1]
    assert again.labels == found.labels
    assert np.allclose(again.boxes, found.boxes, atol=0.01)  # batches are rounded differently
    assert np.allclose(again.scores, found.scores, atol=1e-4)


def test_a_prompt_free_detector_agrees_with_ultralytics(checkpoints, photo):
    """The library's own pass over the network finds what ultralytics' predictor finds."""
    from ultralytics import YOLO

    photo = photo.resize((64, 64))  # the two pad other shapes differently
    settings = choose(SEVERAL, groups=False, iou=0.7, confidence=0.001)
    [found] = rg.load_detector(str(checkpoints / "prompt-free.pt"), settings).detect([photo])
    with quiet_libraries():
        [result] = YOLO(str(checkpoints / "prompt-free.pt")).predict(
            photo, imgsz=64, conf=0.001, iou=0.7, max_det=20, agnostic_nms=True, verbose=False
        )
    theirs = result.boxes.xyxy.numpy().clip(0, 64)
    scores = result.boxes.conf.numpy()  # fewer: they drop boxes without a mask
    rows = np.abs(scores[:, None] - found.scores[1:]).argmin(axis=1)
    assert len(theirs) > 3
    assert np.allclose(theirs, found.boxes[1:][rows], atol=0.1)
    assert np.allclose(scores, found.scores[1:][rows], atol=1e-3)
    labels = [found.labels[1 + row] for row in rows]
    assert [result.names[int(number)] for number in result.boxes.cls] == labels


@pytest.mark.parametrize("kind", ["prompt-free", "world", "yoloe"])
def test_classes_choose_among_the_names(checkpoints, photo, no_network, kind):
    name = "thing 7" if kind == "prompt-free" else "plate"
    file = str(checkpoints / f"{kind}.pt")
    everything = rg.load_detector(file, SEVERAL)
    chosen = rg.load_detector(file, choose(SEVERAL, classes=(name,), groups=False))
    [found] = chosen.detect([photo])
    assert set(found.labels[1:]) <= {name}
    assert chosen.fingerprint != everything.fingerprint
    if kind != "prompt-free":  # one of 4,585 random names may well be nobody's favorite
        assert len(found) > 1


def test_classes_choose_among_those_of_an_ordinary_detector(shared):
    file = str(shared("weights/yolo11n-coco-dequantized.pt"))
    photos = sorted(shared("coco_val128/images").glob("*.jpg"))[:6]
    images = [rg.load_image(path) for path in photos]
    settings = rg.DetectorSettings(classes=("person", "dog"), groups=False, image_size=320)
    found = rg.load_detector(file, settings).detect(images)
    labels = {label for regions in found for label in regions.labels[1:]}
    assert labels and labels <= {"person", "dog"}


@pytest.mark.parametrize(
    ("kind", "classes", "message"),
    [
        ("nameless", None, "it holds none; write a checkpoint that does"),
        ("yoloe", ("zebra",), "does not know 'zebra' among its 4 names"),
        ("yoloe", ("plates",), "it knows 'plate'"),
        ("prompt-free", ("sky",), "name some of its own classes"),
    ],
)
def test_names_without_embeddings_are_refused(checkpoints, no_network, kind, classes, message):
    with pytest.raises(rg.ModelError, match=message):
        rg.load_detector(str(checkpoints / f"{kind}.pt"), choose(SEVERAL, classes=classes))


class TextTower:
    """Embeds the four names as `make` does, and others at random."""

    dimension = SIZE
    fingerprint = Fingerprint("text tower", "0", "none")

    def __init__(self, seed=0):
        self._known = dict(
            zip(["cup", "mug", "plate", "person"], unit_vectors(4, seed)[0], strict=True)
        )

    def encode_phrases(self, phrases):
        rows = [self._known.get(p, unit_vectors(1, len(p) + 50)[0, 0]) for p in phrases]
        return torch.stack(rows).numpy()


@pytest.mark.parametrize("kind", ["world", "nameless"])
def test_a_vocabulary_of_ones_own(checkpoints, tmp_path, photo, monkeypatch, no_network, kind):
    monkeypatch.setattr(open_vocabulary, "load_encoder", lambda *_: TextTower())
    out = tmp_path / "mine.pt"
    names = ["zebra crossing", "cup"]
    write_vocabulary(str(checkpoints / f"{kind}.pt"), names, "its text tower", out)
    assert str(checkpoints).encode() not in out.read_bytes()
    detector = rg.load_detector(str(out), choose(SEVERAL, groups=False))
    assert list(detector.class_names.values()) == names
    [found] = detector.detect([photo])
    assert set(found.labels[1:]) <= set(names) and len(found) > 1


def test_a_vocabulary_scores_as_ultralytics_does_with_the_same_embeddings(checkpoints, tmp_path):
    """The written file is what ultralytics' own set_classes gives with these embeddings."""
    from ultralytics import YOLO

    with quiet_libraries():
        theirs = YOLO(str(checkpoints / "nameless.pt")).model.eval()
        raw = torch.from_numpy(TextTower().encode_phrases(["cup", "plate"]))[None]
        with torch.no_grad():
            theirs.set_classes(["cup", "plate"], theirs.model[-1].get_tpe(raw))
        monkey = pytest.MonkeyPatch()
        monkey.setattr(open_vocabulary, "load_encoder", lambda *_: TextTower())
        with monkey.context():
            write_vocabulary(
                str(checkpoints / "nameless.pt"), ["cup", "plate"], "x", tmp_path / "mine.pt"
            )
        monkey.undo()
        ours = YOLO(str(tmp_path / "mine.pt")).model.eval()
        pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected, got = theirs(pixels)[0][0], ours(pixels)[0][0]
    assert torch.allclose(expected, got, atol=1e-3)


def test_a_wrong_text_model_is_refused(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(open_vocabulary, "load_encoder", lambda *_: TextTower(seed=9))
    with pytest.raises(rg.ModelError, match="differently than the text model"):
        write_vocabulary(str(checkpoints / "world.pt"), ["cup"], "another", tmp_path / "a.pt")
    monkeypatch.undo()
    with pytest.raises(rg.ModelError, match="text embeddings of 512 numbers, and nano has 256"):
        write_vocabulary(str(checkpoints / "world.pt"), ["cup"], "nano", tmp_path / "a.pt")
    with pytest.raises(rg.ModelError, match=r"the names that prompt-free.pt detects are fixed"):
        write_vocabulary(str(checkpoints / "prompt-free.pt"), ["cup"], "nano", tmp_path / "a.pt")
    assert not list(tmp_path.iterdir())


def test_an_index_remembers_its_classes(checkpoints, photo, tmp_path, no_network):
    photos = tmp_path / "photos"
    photos.mkdir()
    photo.save(photos / "a.png")
    file, index = str(checkpoints / "yoloe.pt"), str(tmp_path / "index")
    run = CliRunner().invoke
    arguments = ["build", str(photos), "--index", index, "--detector", file, "--workers", "1"]
    built = run(app, [*arguments, "--classes", "plate,cup", "--confidence", "0"])
    assert built.exit_code == 0, built.output
    with rg.Index.open(index) as opened:
        hits = opened.query("a plate", top=3, min_probability=0)
        assert {hit.label.removesuffix(" group") for hit in hits} <= {"plate", "cup", "whole image"}
    assert run(app, ["build", str(photos), "--index", index]).exit_code == 0
    other = run(app, [*arguments, "--classes", "mug"])
    assert other.exit_code != 0
    info = json.loads(run(app, ["info", index, "--json"]).stdout)
    assert "classes=" in info["detector_fingerprint"]
