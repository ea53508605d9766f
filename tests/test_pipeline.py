"""Building in overlapping stages: order, errors, bounds, and the same results however it runs."""

from __future__ import annotations

import importlib.util
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from retrieval_grounding import Regions, load_detector, load_encoder, load_image
from retrieval_grounding.cli.demo import demo_photographs
from retrieval_grounding.indexing.stages import overlapped
from retrieval_grounding.models import gpu_resize
from retrieval_grounding.models.batch_size import AdaptiveBatchSize
from retrieval_grounding.models.clip import OpenClipEncoder
from retrieval_grounding.models.cpu_pool import CpuPool
from retrieval_grounding.models.device import describe_devices
from retrieval_grounding.models.gpu_resize import crop, resize, upload


def test_stages_overlap_and_keep_the_order():
    both = threading.Barrier(2, timeout=10)  # passes only if two stages run at once

    def wait_at(number):
        def work(item):
            if item == number:
                both.wait()
            return item

        return work

    assert list(overlapped(wait_at(0), overlapped(wait_at(1), range(3)))) == [0, 1, 2]


def test_stages_take_no_more_than_they_may():
    taken = []
    results = overlapped(abs, (taken.append(n) or n for n in range(100)), ahead=1)
    for number in range(5):
        assert next(results) == number
        assert len(taken) <= number + 2
    results.close()
    assert len(taken) <= 6


def test_an_error_comes_in_its_place():
    results = overlapped(lambda number: 1 // (2 - number), range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_lanes_use_one_thread_each_and_leave_others_theirs():
    usual = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        pool = CpuPool(2)
        assert pool.map(lambda _: torch.get_num_threads(), range(4)) == [1] * 4
        assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(1) as other:
            assert other.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(usual)


def test_halving_keeps_order_and_names_what_never_fits():
    def double(items):
        if sum(items) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [2 * item for item in items]

    assert AdaptiveBatchSize()(double, [1, 2, 9, 3, 1]) == [2, 4, None, 6, 2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_halving_survives_a_gpu_that_is_full():
    free, _ = torch.cuda.mem_get_info()

    def fill(items):
        torch.empty(len(items) * free // 3, dtype=torch.uint8, device="cuda")
        return items

    assert AdaptiveBatchSize()(fill, list(range(8))) == list(range(8))


@pytest.fixture(scope="module")
def photographs():
    return [load_image(path) for path in demo_photographs()[:3]]


def test_images_are_detected_alike_alone_and_together(photographs):
    detector = load_detector("nano", device="cpu")
    for alone, together in zip(
        [detector.detect([image])[0] for image in photographs],
        detector.detect(photographs),
        strict=True,
    ):
        assert alone.labels == together.labels
        np.testing.assert_allclose(alone.boxes, together.boxes, atol=0.01)


def test_regions_are_embedded_alike_in_any_company(photographs):
    encoder = load_encoder("nano", "cpu")
    image = photographs[0]
    box = [[30, 40, 300, 400]]
    [alone] = encoder.encode_regions([image], [Regions(box, [1], ["x"])])
    many = encoder.encode_regions([image], [Regions(box * 9, [1] * 9, ["x"] * 9)])
    np.testing.assert_allclose(many, np.tile(alone, (9, 1)), atol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")
def test_openvino_gives_the_embeddings_of_pytorch(photographs):
    encoder = OpenClipEncoder("nano", "cpu")
    boxes = Regions([[30, 40, 300 + n, 400] for n in range(64)], [1] * 64, ["x"] * 64)
    expected = encoder.encode_regions(photographs[:1], [boxes[:32]])
    given = encoder.encode_regions(photographs[:1], [boxes])
    assert encoder.library == "OpenVINO"
    assert (given[:32] * expected).sum(1).min() > 0.9999


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.floats(0, 50), st.floats(0, 30), st.floats(1, 69), st.floats(1, 49)),
    st.sampled_from(["bicubic", "bilinear"]),
)
def test_resampling_on_a_gpu_is_that_of_pillow(box, interpolation):
    noise = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    image = Image.fromarray(noise).resize((120, 80))
    corners = (box[0], box[1], box[0] + box[2], box[1] + box[3])
    method = getattr(Image.Resampling, interpolation.upper())
    smaller = image.crop((0, 0, 50, 30))  # crops of images of other sizes are cut out together
    boxes = [np.array([[0, 0, 50, 30]]), np.array([corners])]
    pixels = [upload(each, "cpu") for each in (smaller, image)]
    expected = [smaller.resize((24, 24), method), image.resize((24, 24), method, corners)]
    for given_, known in zip(crop(pixels, boxes, 24, interpolation), expected, strict=True):
        assert np.abs(given_.permute(1, 2, 0).numpy() - np.asarray(known, float)).max() <= 2
    [whole] = resize(pixels[0], 16, 24, interpolation)[None]
    known = np.asarray(smaller.resize((24, 16), method), float)
    assert np.abs(whole.permute(1, 2, 0).numpy() - known).max() <= 2


@pytest.mark.parametrize("counts", [(0, 600, 0), (0, 0, 5), (600, 0, 1)])
def test_images_without_regions_are_left_out_on_a_gpu(counts):
    encoder = load_encoder("nano", "cpu")
    images = [Image.effect_noise(size, 90).convert("RGB") for size in [(90, 60), (40, 50), (9, 7)]]
    regions = [
        Regions(np.tile([1, 1, *image.size], (count, 1)), np.ones(count), ["a"] * count)
        for image, count in zip(images, counts, strict=True)
    ]
    expected = encoder.encode_regions(images, regions)
    given_ = encoder._encode_on_gpu(images, regions)
    assert given_.shape == expected.shape
    assert (given_ * expected).sum(1).min() > 0.999
    with pytest.raises(ValueError, match="longer"):
        encoder._encode_on_gpu(images[:2], regions)


def test_crops_of_one_image_are_divided_if_they_are_many(monkeypatch):
    pixels = upload(Image.effect_noise((70, 50), 90).convert("RGB"), "cpu")
    boxes = np.array([[n, n, n + 20, n + 9] for n in range(40)])
    expected = crop([pixels, pixels], [boxes, boxes[:3]], 8, "bicubic")
    monkeypatch.setattr(gpu_resize, "_MOST_WEIGHTS", 5 * 70 * 8)
    counts = []
    weights = gpu_resize._weights
    monkeypatch.setattr(
        gpu_resize,
        "_weights",
        lambda start, *more: counts.append(len(start)) or weights(start, *more),
    )
    assert torch.equal(crop([pixels, pixels], [boxes, boxes[:3]], 8, "bicubic"), expected)
    assert max(counts) == 5


def test_an_upload_lives_as_long_as_its_image():
    image = Image.new("RGB", (3, 2), (1, 2, 3))
    pixels = upload(image, "cpu")
    assert pixels.shape == (3, 2, 3)
    assert upload(image, "cpu") is pixels


def test_one_line_says_what_runs_where():
    line = describe_devices(load_detector("nano", device="cpu"), load_encoder("nano", "cpu"))
    assert line.startswith("detector: CPU, ")
    assert "\n" not in line
