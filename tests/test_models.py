"""Detectors and encoders: what they refuse, and published architectures without a hub."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from retrieval_grounding import (
    DetectorSettings,
    ModelError,
    PhraseError,
    Regions,
    load_detector,
    load_encoder,
    load_image,
)
from retrieval_grounding.core.phrases import clean_phrase
from retrieval_grounding.models.clip import OpenClipEncoder
from retrieval_grounding.models.device import resolve_device
from retrieval_grounding.models.presets import PRESETS, get_preset

ARCHITECTURE = "ViT-S-32-alt"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Random weights of a published architecture, saved as a local checkpoint."""
    import open_clip

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    torch.save(open_clip.create_model(ARCHITECTURE).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def encoder(checkpoint):
    return OpenClipEncoder(f"{ARCHITECTURE}:{checkpoint}", "cpu")


@pytest.fixture
def picture():
    pixels = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    return Image.fromarray(pixels)


def test_a_published_architecture_embeds_regions_and_phrases(encoder, picture):
    regions = Regions([[0, 0, 120, 90], [10, 10, 40, 80], [50, 5, 51, 6]], [1, 0.5, 0.5], "abc")
    embeddings = encoder.encode_regions([picture, picture], [regions, regions[1:]])
    assert embeddings.shape == (5, encoder.dimension)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(embeddings[1:3], embeddings[3:], atol=1e-5)
    phrases = encoder.encode_phrases(["a dog", "a cat", "a dog"])
    np.testing.assert_array_equal(phrases[0], phrases[2])
    np.testing.assert_allclose(np.linalg.norm(phrases, axis=1), 1, atol=1e-5)


def test_a_region_is_embedded_like_open_clip_embeds_its_crop(encoder, checkpoint, picture):
    import open_clip

    model, _, transform = open_clip.create_model_and_transforms(
        ARCHITECTURE, pretrained=str(checkpoint), image_resize_mode="squash"
    )
    with torch.inference_mode():
        pixels = transform(picture.crop((10, 10, 90, 70)))[None]
        expected = model.eval().encode_image(pixels, normalize=True)[0].numpy()
    [embedding] = encoder.encode_regions([picture], [Regions([[10, 10, 90, 70]], [1], ["x"])])
    assert float(embedding @ expected) > 0.999


def test_the_fingerprint_follows_weights_not_names(encoder, checkpoint, tmp_path):
    other_name = tmp_path / "renamed.pt"
    other_name.write_bytes(checkpoint.read_bytes())
    same = OpenClipEncoder(f"{ARCHITECTURE}:{other_name}", "cpu")
    assert same.fingerprint.matches(encoder.fingerprint)
    weights = torch.load(checkpoint, weights_only=True)
    weights["logit_scale"] += 1
    torch.save(weights, other_name)
    changed = OpenClipEncoder(f"{ARCHITECTURE}:{other_name}", "cpu")
    assert not changed.fingerprint.matches(encoder.fingerprint)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("ViT-B-23:openai", r"no model 'ViT-B-23' \(near: ViT-B-32"),
        ("ViT-B-32", "does not name weights of ViT-B-32: add one of ViT-B-32:openai"),
        ("ViT-B-32:nonsense", "does not name weights of ViT-B-32"),
        ("{tmp}", "open_clip_config.json is missing"),
        ("ViT-B-32:{tmp}/text.pt", "could not be loaded"),
    ],
)
def test_wrong_encoders_are_refused_in_one_sentence(tmp_path, spec, message):
    (tmp_path / "text.pt").write_text("no checkpoint")
    with pytest.raises(ModelError, match=message) as caught:
        load_encoder(spec.format(tmp=tmp_path), "cpu")
    assert "\n" not in str(caught.value)


def test_weights_of_another_architecture_are_refused(checkpoint):
    with pytest.raises(ModelError, match="could not be loaded"):
        load_encoder(f"RN50:{checkpoint}", "cpu")


HUB = """
import sys
import retrieval_grounding as rg
try:
    {call}
except rg.ModelError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("call", "way_out"),
    [
        ("rg.load_encoder('ViT-B-16-SigLIP2-256:webli', 'cpu')", "--clip nano"),
        ("rg.load_encoder('hf-hub:timm/ViT-B-16-SigLIP2-256', 'cpu')", "--clip nano"),
        ("rg.load_detector('yolo11s.pt', None, 'cpu')", "--detector nano"),
    ],
)
def test_an_unreachable_hub_is_told_with_the_way_out(tmp_path, call, way_out):
    # A proxy that nobody listens on stands for the missing network; the caches are empty.
    import os

    nobody = "http://127.0.0.1:9"
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "TORCH_HOME": str(tmp_path),
        "https_proxy": nobody, "http_proxy": nobody, "no_proxy": "",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", HUB.format(call=call)],
        capture_output=True, text=True, env=environment, check=True,
    )  # fmt: skip
    assert "could not be downloaded" in done.stdout
    assert way_out in done.stdout
    assert len(done.stdout.strip().splitlines()) == 1


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "nano"])
def test_presets_name_models_that_exist(name):
    from open_clip import list_pretrained
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

    preset = get_preset(name)
    assert tuple(preset.clip.split(":")) in list_pretrained()
    assert preset.detector in GITHUB_ASSETS_NAMES


def test_an_unknown_preset_lists_those_there_are():
    with pytest.raises(ModelError, match="nano, base, large, seed"):
        get_preset("tiny")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no checkpoint", "is not a YOLO checkpoint"),
        (b"", "is not a YOLO checkpoint"),
        (None, "there is no file"),
    ],
)
def test_wrong_detectors_are_refused_in_one_sentence(tmp_path, content, message):
    path = tmp_path / "weights.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        load_detector(str(path), None, "cpu")
    assert "\n" not in str(caught.value)


def test_a_yolov5_checkpoint_of_the_old_format_is_told_apart(shared):
    with pytest.raises(ModelError, match=r"old ultralytics/yolov5.*yolov5su\.pt"):
        load_detector(str(shared("weights/yolov5n-v7.0-legacy.pt")), None, "cpu")


@pytest.mark.parametrize("name", ["yolo11n", "yolov5nu"])
def test_published_detectors_find_the_objects_of_a_photograph(shared, name):
    weights = shared(f"weights/{name}-coco-dequantized.pt")
    image = load_image(shared("coco_val128/images/000000000285.jpg"))
    [regions] = load_detector(str(weights), None, "cpu").detect([image])
    assert regions.labels[:2] == ("whole image", "bear")
    assert regions.boxes[0].tolist() == [0, 0, *image.size]


@pytest.mark.parametrize(
    "options", [{"confidence": 2}, {"iou": -1}, {"max_boxes": -1}, {"image_size": 100}]
)
def test_impossible_settings_are_refused(options):
    with pytest.raises(ModelError):
        DetectorSettings(**options)


@pytest.mark.parametrize("device", ["gpu", "cuda:99" if not torch.cuda.is_available() else "x"])
def test_unusable_devices_are_refused(device):
    with pytest.raises(ModelError):
        resolve_device(device)


@pytest.mark.parametrize(
    ("phrase", "cleaned"), [(" a\tb\n", "a b"), ("a\x00b", "a b"), ("собака 犬", "собака 犬")]
)
def test_phrases_are_cleaned(phrase, cleaned):
    assert clean_phrase(phrase) == cleaned


@pytest.mark.parametrize("phrase", ["", " \n", "\x07", 3, None, ["a"]])
def test_no_phrase_is_refused(phrase):
    with pytest.raises(PhraseError):
        clean_phrase(phrase)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_gives_the_embeddings_of_the_cpu(checkpoint, encoder, picture):
    on_gpu = OpenClipEncoder(f"{ARCHITECTURE}:{checkpoint}", "cuda")
    regions = [Regions.whole_image(*picture.size)]
    there, here = (e.encode_regions([picture], regions) for e in (on_gpu, encoder))
    assert float((there * here).sum()) > 0.999


def test_detecting_leaves_pytorch_its_threads():
    usual = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        load_detector("nano", device="cpu").detect([Image.new("RGB", (64, 48))])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(usual)


class Evil:
    """Makes a file when it is unpickled without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("imported_before", [False, True])
def test_a_checkpoint_cannot_call_what_it_likes(tmp_path, monkeypatch, imported_before):
    import torch

    load_detector("nano")
    if imported_before:
        from ultralytics.nn import tasks

        monkeypatch.setattr(tasks, "SAFE_LOAD", False)  # as it is without our environment
    mark = tmp_path / "mark"
    torch.save({"model": Evil(mark)}, tmp_path / "evil.pt")
    with pytest.raises(ModelError, match="safely"):
        load_detector(str(tmp_path / "evil.pt"))
    assert not mark.exists()
