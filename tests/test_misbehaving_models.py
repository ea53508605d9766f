"""A model that breaks its contract is blamed by name, and nothing bad is committed."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import ColorEncoder, SquareDetector, draw_squares

import retrieval_grounding as rg
from retrieval_grounding.models.batch_size import AdaptiveBatchSize

QUIET = rg.BuildOptions(progress=False, workers=1)


class BadDetector(SquareDetector):
    """A detector whose answer a test changes."""

    def __init__(self, change):
        self.change = change

    def detect(self, images):
        return self.change(super().detect(images))


class BadEncoder(ColorEncoder):
    """An encoder whose embeddings a test changes, of regions, of phrases or of both."""

    def __init__(self, regions=lambda found: found, phrases=lambda found: found):
        super().__init__()
        self.change_regions, self.change_phrases = regions, phrases

    def encode_regions(self, images, regions):
        return self.change_regions(super().encode_regions(images, regions))

    def encode_phrases(self, phrases):
        return self.change_phrases(super().encode_phrases(phrases))


def poisoned(value):
    def change(found):
        found = found.copy()
        found[-1] = value
        return found

    return change


DETECTIONS = {
    "too few lists": (lambda found: found[:-1], "regions of 3 images for 4 images"),
    "too many lists": (lambda found: [*found, found[0]], "regions of 5 images for 4 images"),
    "nothing": (lambda _: None, "a list of Regions, not NoneType"),
    "no regions": (lambda found: [None] * len(found), "Regions, not NoneType"),
    "arrays": (lambda found: [regions.boxes for regions in found], "Regions, not ndarray"),
    "empty": (lambda found: [rg.Regions([], [], [])] * len(found), "whole image as region 0"),
    "no whole image": (lambda found: [r[1:] if len(r) > 1 else r for r in found], "whole image"),
    "wrong whole image": (
        lambda found: [rg.Regions.whole_image(9, 9) for _ in found],
        "whole image as region 0",
    ),
    "boxes outside": (
        lambda found: [rg.Regions.concatenate([r, rg.Regions([[0, 0, 999, 5]], [1], ["x"])])
                       for r in found],
        r"the box \[0.0, 0.0, 999.0, 5.0\] for an image of 80 × 60",
    ),
}  # fmt: skip

EMBEDDINGS = {
    "not normalized": (lambda found: found * 3, "length 3"),
    "NaN": (poisoned(np.nan), "finite and of unit length"),
    "infinite": (poisoned(np.inf), "finite and of unit length"),
    "zeros": (poisoned(0), "length 0"),
    "too few rows": (lambda found: found[:-1], "returned the shape"),
    "wrong dimension": (lambda found: found[:, :-1], "returned the shape"),
    "flat": (lambda found: found.ravel(), "returned the shape"),
    "list": (lambda found: found.tolist(), "floating-point array for .*, not list"),
    "integers": (lambda found: found.astype(int), "not int64s"),
    "nothing": (lambda _: None, "not NoneType"),
}


def test_the_fakes_themselves_keep_the_contract(photos, tmp_path):
    models = {"detector": BadDetector(lambda found: found), "clip": BadEncoder()}
    assert len(rg.build(photos, tmp_path / "index", options=QUIET, **models)) == 4


@pytest.mark.parametrize("fault", DETECTIONS)
def test_bad_detections(fault, photos, tmp_path):
    change, message = DETECTIONS[fault]
    with pytest.raises(rg.ModelError, match=message) as told:
        rg.build(
            photos, tmp_path / "index", detector=BadDetector(change), clip=ColorEncoder(),
            options=QUIET,
        )  # fmt: skip
    assert SquareDetector.fingerprint in str(told.value)
    with pytest.raises(rg.ModelError, match="detector"):
        rg.ground(photos / "c.png", "red", detector=BadDetector(change), clip=ColorEncoder())


@pytest.mark.parametrize("fault", EMBEDDINGS)
def test_bad_embeddings_spare_the_index_that_is_there(fault, photos, tmp_path):
    change, message = EMBEDDINGS[fault]
    index = rg.build(
        photos, tmp_path / "index", detector=SquareDetector(), clip=ColorEncoder(), options=QUIET
    )
    before = [hit.as_dict() for hit in index.query("red")]
    draw_squares(photos / "new.png", {"red": (5, 5, 25, 25), "blue": (30, 30, 50, 50)})
    with pytest.raises(rg.ModelError, match=message) as told:
        rg.build(
            photos, tmp_path / "index", detector=SquareDetector(), clip=BadEncoder(regions=change),
            options=QUIET,
        )  # fmt: skip
    assert ColorEncoder.fingerprint.name in str(told.value)
    again = rg.Index.open(tmp_path / "index", encoder=ColorEncoder())
    assert [hit.as_dict() for hit in again.query("red")] == before
    assert again.verify().faults == []
    with pytest.raises(rg.ModelError, match=message):
        rg.Index.open(tmp_path / "index", encoder=BadEncoder(phrases=change)).query(["red", "blue"])


def test_memory_that_runs_out_on_a_cpu_is_recognized():
    def model(items):
        if len(items) > 2:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't "
                "allocate memory: you tried to allocate 9000000000 bytes. Error code 12"
            )
        if 7 in items:
            raise RuntimeError("std::bad_alloc")
        return [10 * item for item in items]

    assert AdaptiveBatchSize()(model, [1, 2, 3, 7, 5]) == [10, 20, 30, None, 50]
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        AdaptiveBatchSize()(lambda _: (_ for _ in ()).throw(RuntimeError("mat1 and mat2")), [1])


def test_an_image_that_fills_the_memory_by_itself_is_named(photos, tmp_path):
    class Starving(SquareDetector):
        def detect(self, images):
            if any(image.getpixel((45, 35)) == (220, 20, 20) for image in images):
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return super().detect(images)

    index = rg.build(
        photos, tmp_path / "index", detector=Starving(), clip=ColorEncoder(), options=QUIET
    )
    [skipped] = index.build_report.skipped
    assert (skipped.path, skipped.reason) == (str(photos / "c.png"), "out-of-memory")
    assert len(index) == 3
