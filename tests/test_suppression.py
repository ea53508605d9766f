"""Own non-maximum suppression, against that of ultralytics."""

import threading
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ultralytics.utils.nms import non_max_suppression

import retrieval_grounding as rg
from retrieval_grounding.cli.demo import demo_photographs
from retrieval_grounding.data.images import load_image
from retrieval_grounding.models import fixed_batches
from retrieval_grounding.models.batch_size import RECORDING, free_memory
from retrieval_grounding.models.fixed_batches import FixedBatches
from retrieval_grounding.models.gpu_tower import tower_on_gpu
from retrieval_grounding.models.suppression import suppress


def random_outputs(seed: int, images: int, boxes: int, classes: int, more: int) -> torch.Tensor:
    """Return outputs whose boxes lie in few places, so that most of them overlap."""
    random = torch.Generator().manual_seed(seed)
    places = torch.rand(images, 2, 12, generator=random) * 500
    place = torch.randint(12, (images, 1, boxes), generator=random).expand(-1, 2, -1)
    centers = places.gather(2, place) + torch.rand(images, 2, boxes, generator=random) * 40
    sides = 30 + torch.rand(images, 2, boxes, generator=random) * 60
    rest = torch.rand(images, classes + more, boxes, generator=random) ** 4
    return torch.cat([centers, sides, rest], 1)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    boxes=st.sampled_from([1, 40, 900, 3000]),
    classes=st.sampled_from([1, 5, 80]),
    more=st.sampled_from([0, 32]),
    confidence=st.sampled_from([0.0, 0.05, 0.5, 0.999]),
    iou=st.sampled_from([0.1, 0.5, 0.99]),
    most=st.sampled_from([1, 20, 300]),
    one_box_a_thing=st.booleans(),
    some_classes=st.booleans(),
)
def test_the_same_boxes_as_ultralytics(
    seed, boxes, classes, more, confidence, iou, most, one_box_a_thing, some_classes
):
    outputs = random_outputs(seed, 3, boxes, classes, more)
    kept = [0, classes - 1] if some_classes else None
    expected = non_max_suppression(
        outputs.clone(), confidence, iou, classes=kept, agnostic=one_box_a_thing, nc=classes,
        max_det=most, max_time_img=60,
    )  # fmt: skip
    found = suppress(
        outputs, classes, confidence=confidence, iou=iou, most=most, kept_classes=kept,
        one_box_a_thing=one_box_a_thing,
    )  # fmt: skip
    assert len(found) == 3
    for rows, known in zip(found, expected, strict=True):
        np.testing.assert_array_equal(rows, known[:, :6].numpy())


def test_candidates_that_hide_each_other_do_not_hide_the_rest():
    """Of 5,000 boxes, the 4,000 strongest are the same; the others have to be looked at, too."""
    outputs = random_outputs(0, 1, 5000, 1, 0)
    outputs[:, :4, :4000] = torch.tensor([300.0, 300, 50, 50])[None, :, None]
    outputs[:, 4, :4000] += 2
    [found] = suppress(outputs, 1, confidence=0.01, iou=0.5, most=10)
    assert len(found) == 10
    assert found[0, :4].tolist() == [275, 275, 325, 325]


class Mixed(torch.nn.Module):
    """A layer that makes float32 values and multiplies them with its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(4))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean((2, 3), dtype=torch.float32).repeat(1, 2)[:, :4] @ self.weight


class Overflowing(torch.nn.Module):
    """A network whose values exceed those of half precision on the way."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels.flatten(1) * 3e4 * 3e4)[:, :4] / 9e8


@pytest.mark.parametrize("network", [Mixed(), Overflowing(), torch.nn.Flatten()])
def test_weights_are_halved_only_where_the_network_allows_it(network):
    example = torch.linspace(0.1, 1, 12).view(1, 3, 2, 2)
    given_ = tower_on_gpu(network, example, "cpu")(example).float()
    assert torch.cosine_similarity(given_, network(example)).min() > 0.99


@pytest.mark.parametrize("count", [1, 3, 4, 9, 23])
def test_batches_of_few_sizes_give_what_one_batch_gives(count):
    sizes = []

    def network(rows: torch.Tensor) -> torch.Tensor:
        sizes.append(len(rows))
        return rows.flatten(1) * 2

    rows = torch.arange(count * 12.0).view(count, 3, 2, 2)
    for _ in range(2):  # the second time, rows of the first are still in the buffers
        assert torch.equal(FixedBatches(lambda: network, [3, 8])(rows), rows.flatten(1) * 2)
    assert set(sizes) <= {3, 8}


def test_batches_that_do_not_fit_become_smaller():
    sizes = []

    def network(rows: torch.Tensor) -> torch.Tensor:
        sizes.append(len(rows))
        if len(rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return rows + 1

    batches = FixedBatches(lambda: network, [64, 8])
    assert torch.equal(batches(torch.zeros(70, 1)), torch.ones(70, 1))
    assert sizes[:3] == [64, 8, 2]
    assert set(sizes[2:]) == {2}


def test_what_filled_the_memory_is_gone_before_a_smaller_batch_is_tried(monkeypatch):
    filled = []

    def network(rows: torch.Tensor) -> torch.Tensor:
        held = rows + 1
        if len(rows) > 2:
            filled.append(weakref.ref(held))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return held

    freed = []
    monkeypatch.setattr(fixed_batches, "free_memory", lambda: freed.append(filled[-1]() is None))
    FixedBatches(lambda: network, [64, 8])(torch.zeros(70, 1))
    assert freed == [True, True]


def test_memory_is_not_released_while_another_thread_records(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    released = threading.Event()
    monkeypatch.setattr(torch.cuda, "empty_cache", released.set)
    thread = threading.Thread(target=free_memory)
    with RECORDING:
        thread.start()
        assert not released.wait(0.3)
    assert released.wait(10)
    thread.join()


def test_a_row_that_does_not_fit_is_an_error():
    def network(rows: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        FixedBatches(lambda: network, [4])(torch.zeros(3, 1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_finds_the_boxes_of_the_cpu():
    photographs = [load_image(path) for path in demo_photographs()[:3]]
    there, here = (
        rg.load_detector("nano", None, device).detect(photographs) for device in ("cuda", "cpu")
    )
    for one, other in zip(there, here, strict=True):
        assert abs(len(one) - len(other)) <= 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_threads_on_a_gpu_do_not_record_each_other():
    """More recordings than PyTorch has streams, while another thread embeds on its own."""
    photograph = load_image(demo_photographs()[0])
    sizes = [(640, 32 * number) for number in range(1, 21)]
    images = [photograph.resize(size) for size in [*sizes, *((h, w) for w, h in sizes[:-1])]]
    whole = [rg.Regions.whole_image(*image.size) for image in images]
    detector, encoder = rg.load_detector("nano", None, "cuda"), rg.load_encoder("nano", "cuda")
    expected = encoder.encode_regions(images, whole)
    given_: list[np.ndarray] = []
    done = threading.Event()

    def embed() -> None:
        while not done.is_set():
            given_.append(encoder.encode_regions(images, whole))

    thread = threading.Thread(target=embed)
    thread.start()
    try:
        found = [detector.detect([image]) for image in images]
    finally:
        done.set()
        thread.join()
    assert len(found) == len(images)
    assert given_
    for embeddings in given_:
        np.testing.assert_allclose(embeddings, expected, atol=1e-3)
