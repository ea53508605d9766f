"""The recipe of the bundled encoder: what batches hold, and what is written."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import retrieval_grounding as rg
from retrieval_grounding.cli.demo import demo_photographs
from retrieval_grounding.models.presets import bundled_path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from nano.choose_share import pick_share
from nano.dual_encoder import DualEncoder, interpolate
from nano.entities import BoxedPhrase
from nano.measures import Figures
from nano.region_batches import RegionSampler
from nano.regions import DETECTED, HUMAN, NO_LABEL, WHOLE, RegionCache
from nano.texts import COCO_NAMES, Caption, noun_phrases

PERSON, DOG = COCO_NAMES.index("person"), COCO_NAMES.index("dog")


@pytest.fixture
def cache() -> RegionCache:
    """Three photographs, each with a dog on the left and a person on the right."""
    one = [(0, 0, 1, 1), (0, 0.2, 0.4, 0.9), (0.6, 0.1, 0.9, 0.9), (0.62, 0.1, 0.88, 0.3)]
    return RegionCache(
        names=["a.webp", "b.webp", "c.webp"],
        sizes=np.full((3, 2), 100),
        offsets=np.array([0, 4, 8, 12]),
        boxes=np.array(one * 3, np.float32),
        scores=np.array([1, 0.9, 0.8, 0] * 3, np.float32),
        labels=np.array([NO_LABEL, DOG, PERSON, NO_LABEL] * 3),
        kinds=np.array([WHOLE, DETECTED, DETECTED, HUMAN] * 3),
        colors=np.tile(np.eye(1, 11, 4, dtype=np.uint8) * 255, (12, 1)),
        classes=list(COCO_NAMES),
        maps=np.zeros((12, 192, 7, 7), np.float16),
    )


def phrase(text: str, *boxes: tuple[float, float, float, float]) -> BoxedPhrase:
    return BoxedPhrase(text, boxes[0], np.array(boxes, np.float32), False)


def test_batches_hold_what_phrases_mean_and_nothing_that_is_left_out(cache):
    said = [phrase("a brown dog", (0, 0.2, 0.4, 0.9)), phrase("a red cap", (0.62, 0.1, 0.88, 0.3))]
    text = "a dog and a man in a red cap"
    captions = [Caption(name, text, tuple(noun_phrases(text))) for name in cache.names]
    sampler = RegionSampler(cache, dict.fromkeys(cache.names, said), captions, {"b.webp"}, 0)
    batch = sampler.draw()
    assert set(cache.photos[batch.rows]) == {0, 2}
    assert len(batch.phrases) == 4
    assert not batch.targets[batch.own[:, None] != batch.photos[None]].any()
    for text, own, targets in zip(batch.phrases, batch.own, batch.targets, strict=True):
        best = cache.boxes[batch.regions[targets.argmax()]]
        assert best[0] == np.float32(0 if "dog" in text else 0.62)
        assert batch.photos[targets.argmax()] == own
    dogs = np.array(["dog" in text for text in batch.phrases])
    other = batch.own[:, None] != batch.photos[None]
    is_dog = cache.labels[batch.regions] == DOG
    assert batch.unclear[dogs][:, is_dog][other[dogs][:, is_dog]].all()
    assert not any("brown" in new or "red cap" in new for _, new in batch.changed)
    assert len(batch.color_phrases) == 11 * len(batch.colors)


def test_an_interpolated_encoder_is_written_as_the_library_loads_it(tmp_path):
    former = DualEncoder(bundled_path("clip"))
    tuned = DualEncoder(bundled_path("clip"))
    tuned.log_scale.data += 1
    for part in (tuned.image_head, tuned.text.proj[2]):
        getattr(part, "proj", part).weight.data *= -1
    phrases = ["a red bus", "two men in suits"]
    image = rg.load_image(demo_photographs()[0])
    regions = rg.Regions.whole_image(*image.size)
    for share, sign in ((0.0, 1), (1.0, -1)):
        mixed = interpolate(former, tuned, share)
        mixed.save(tmp_path / str(share), bundled_path("clip"))
        written, bundled = rg.load_encoder(str(tmp_path / str(share))), rg.load_encoder("nano")
        for kind, inputs in (
            ("encode_phrases", [phrases]),
            ("encode_regions", [[image], [regions]]),
        ):
            expected = getattr(bundled, kind)(*inputs) * sign
            assert (getattr(written, kind)(*inputs) * expected).sum(1).min() > 0.999
    assert float(interpolate(former, tuned, 0.5).log_scale - former.log_scale) == pytest.approx(0.5)


def test_the_share_forgets_little_and_gains_most():
    def figures(mean_iou: float, names: float = 0.7, captions: float = 0.7) -> Figures:
        return Figures(mean_iou, 0.5, 0.3, names, captions)

    before = {0.0: figures(0.40)}
    assert pick_share(before | {0.4: figures(0.45), 0.6: figures(0.50)}) == 0.6
    assert pick_share(before | {0.4: figures(0.497), 0.6: figures(0.50)}) == 0.4
    assert pick_share(before | {0.4: figures(0.45), 0.6: figures(0.50, names=0.68)}) == 0.4
    assert pick_share(before | {0.4: figures(0.45), 0.6: figures(0.50, captions=0.68)}) == 0.4
    assert pick_share(before | {0.4: figures(0.39)}) == 0.0
