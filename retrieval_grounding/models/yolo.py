"""YOLO checkpoints, run by ultralytics."""

from __future__ import annotations

import copy
import functools
import hashlib
import itertools
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..core.fork import ForkSafeLock
from ..core.groups import with_groups
from ..core.regions import Regions
from ._quiet import quiet_libraries
from .cpu_pool import cpu_pool
from .detector import _STRIDE, DetectorSettings
from .device import resolve_device
from .fixed_batches import FixedBatches
from .gpu_resize import resize, upload
from .open_vocabulary import choose_classes, is_open_vocabulary
from .streams import own_stream
from .suppression import suppress
from .yolo_checkpoint import find_detector, load_yolo

if TYPE_CHECKING:
    import torch

__all__ = ["UltralyticsDetector", "load_detector"]


_BATCHES = (4, 16)
_PADDING_GREY = 114  # what YOLO models are trained with


class UltralyticsDetector:
    """A YOLO checkpoint run by ultralytics.

    Each image is scaled to `settings.image_size` and padded to multiples of 32 by itself, so its
    regions do not depend on the other images of a batch.

    Parameters
    ----------
    weights : path
        A ``.pt`` checkpoint in the current ultralytics format. It is unpickled against
        ultralytics' list of known classes; still, trust weights as you trust code.
    settings : DetectorSettings
        Thresholds and sizes.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Raises
    ------
    ModelError
        If the file is missing or is not such a checkpoint.
    """

    def __init__(
        self, weights: Path, settings: DetectorSettings | None = None, device: str = "auto"
    ) -> None:
        import torch

        self.settings = settings or DetectorSettings()
        self.device = resolve_device(device)
        self._on_gpu = self.device.startswith("cuda")
        yolo = load_yolo(weights)
        trained_size = yolo.overrides.get("imgsz", 640)
        self.image_size = self.settings.image_size or int(np.max(trained_size))
        names, self._kept_classes = choose_classes(
            yolo.model, list(yolo.names.values()), self.settings.classes, weights.name
        )
        self.class_names: dict[int, str] = dict(enumerate(names))
        # Several names may fit one thing, such as cup and mug, so boxes of all names compete.
        self._one_box_a_thing = is_open_vocabulary(yolo.model)
        digest = hashlib.blake2b(weights.read_bytes(), digest_size=8).hexdigest()
        kept = asdict(self.settings) | {"image_size": self.image_size}
        if not self.settings.groups:  # not named, as in indexes from before there were groups
            del kept["groups"]
        chosen = kept.pop("classes")
        self.fingerprint = f"{weights.stem} {digest} " + " ".join(
            f"{name}={value:g}" for name, value in sorted(kept.items())
        )
        if chosen is not None:
            names_digest = hashlib.blake2b("\n".join(chosen).encode(), digest_size=8)
            self.fingerprint += f" classes={names_digest.hexdigest()}"
        with quiet_libraries():
            network = yolo.model.float().eval().fuse(verbose=False)
        # In float32 also on a GPU, which rounds products to TF32, and there with channels first:
        # cuDNN compiles other kernels for each shape when it meets it, which takes seconds.
        layout = torch.contiguous_format if self._on_gpu else torch.channels_last
        network = network.to(self.device).to(memory_format=layout)
        self._network = network
        self._batches = FixedBatches(self._forward, _BATCHES)
        self._own = threading.local()
        self._lock = ForkSafeLock()

    def detect(self, images: Sequence[Image.Image]) -> list[Regions]:
        """Return the regions of each image: the whole image, detections by confidence, groups.

        Parameters
        ----------
        images : sequence of PIL images
            Mode RGB, upright.
        """
        if self.device == "cpu":
            return cpu_pool().map(self._detect_one, images)
        if not self._on_gpu:  # mps, xpu: one image at a time
            return [self._detect_one(image) for image in images]
        with own_stream(self.device):
            return self._detect_on_gpu(images)

    def _detect_on_gpu(self, images: Sequence[Image.Image]) -> list[Regions]:
        """Detect in batches of images of the same padded shape."""
        import torch

        by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
        for position, image in enumerate(images):
            by_shape[_letterbox_shape(image, self.image_size)[2:]].append(position)
        found: dict[int, Regions] = {}
        for (height, width), positions in by_shape.items():
            batch = torch.full(
                (len(positions), 3, height, width), _PADDING_GREY / 255, device=self.device
            )
            for padded, position in zip(batch, positions, strict=True):
                self._letterbox_on_gpu(images[position], padded)
            chosen = self._choose(self._batches(batch))
            for position, rows in zip(positions, chosen, strict=True):
                found[position] = self._to_regions(rows, images[position])
        return [found[position] for position in range(len(images))]

    def _letterbox_on_gpu(self, image: Image.Image, padded: torch.Tensor) -> None:
        """Do on the GPU what :func:`_letterbox` does; the result is from 0 to 1."""
        width, height, *_ = _letterbox_shape(image, self.image_size)
        pixels = resize(upload(image, self.device), height, width, "bilinear")
        padded[:, :height, :width] = pixels.div_(255)

    def _detect_one(self, image: Image.Image) -> Regions:
        import torch

        pixels = torch.from_numpy(_letterbox(image, self.image_size)).permute(2, 0, 1)[None]
        batch = pixels.contiguous(memory_format=torch.channels_last).to(self.device)
        with torch.inference_mode():
            outputs = _first(self._own_network()(batch.float() / 255))
            [rows] = self._choose(outputs)
        return self._to_regions(rows, image)

    def _choose(self, outputs: torch.Tensor) -> Sequence[np.ndarray]:
        """Return the boxes to keep of each image, (n, 6)."""
        settings, most = self.settings, max(self.settings.max_boxes, 1)
        if getattr(self._network, "end2end", False):
            from ultralytics.utils.nms import non_max_suppression

            found = non_max_suppression(
                outputs, settings.confidence, classes=self._kept_classes, max_det=most, end2end=True
            )
            return [rows[:, :6].cpu().numpy() for rows in found]
        return suppress(
            outputs,
            len(self.class_names),  # after these, a segmentation model has masks
            confidence=settings.confidence,
            iou=settings.iou,
            most=most,
            kept_classes=self._kept_classes,
            one_box_a_thing=self._one_box_a_thing,
        )

    def _own_network(self) -> Any:
        """Return this thread's copy."""
        if not hasattr(self._own, "network"):
            self._own.network = self._copy()
        return self._own.network

    def _copy(self) -> Any:
        """Return a copy that shares the weights: the head keeps the grid of its last input."""
        tensors = itertools.chain(self._network.parameters(), self._network.buffers())
        with self._lock:
            return copy.deepcopy(self._network, {id(tensor): tensor for tensor in tensors})

    def _forward(self) -> Callable[[torch.Tensor], torch.Tensor]:
        network = self._copy()
        return lambda pixels: _first(network(pixels))

    def _to_regions(self, rows: np.ndarray, image: Image.Image) -> Regions:
        whole = Regions.whole_image(image.width, image.height)
        scale = self.image_size / max(image.size)
        boxes = rows[: self.settings.max_boxes, :4].astype(np.float64) / scale
        boxes = boxes.clip(0, [image.width, image.height] * 2)
        keep = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1))
        labels = [self.class_names[int(rows[row, 5])] for row in keep]
        found = Regions.concatenate([whole, Regions(boxes[keep], rows[keep, 4], labels)])
        return with_groups(found) if self.settings.groups else found


@functools.lru_cache(maxsize=2)
def load_detector(
    spec: str = "nano", settings: DetectorSettings | None = None, device: str = "auto"
) -> UltralyticsDetector:
    """Load a detector; the two used last stay in memory.

    Parameters
    ----------
    spec : str
        ``"nano"``, the path of a checkpoint, or a name that ultralytics publishes, such as
        ``"yolo11s.pt"``, which is downloaded once to PyTorch Hub's checkpoint folder.
    settings : DetectorSettings, optional
        Thresholds and sizes.
    device : str
        Where it runs.

    Raises
    ------
    ModelError
        If the weights are missing, unreachable or of the wrong kind.
    """
    return UltralyticsDetector(find_detector(spec), settings, device)


def _first(outputs: Any) -> torch.Tensor:
    """Return what a network finds; beside it are raw outputs, and masks."""
    while isinstance(outputs, (tuple, list)):
        outputs = outputs[0]
    found: torch.Tensor = outputs
    return found


def _letterbox_shape(image: Image.Image, size: int) -> tuple[int, int, int, int]:
    """Return the scaled width and height, and the padded height and width."""
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    return width, height, -(-height // _STRIDE) * _STRIDE, -(-width // _STRIDE) * _STRIDE


def _letterbox(image: Image.Image, size: int) -> np.ndarray:
    """Scale the longer side to `size`, pad right and bottom to multiples of 32; HWC uint8 RGB."""
    width, height, *padded = _letterbox_shape(image, size)
    resized = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    canvas = np.full((*padded, 3), _PADDING_GREY, dtype=np.uint8)
    canvas[:height, :width] = np.asarray(resized)
    return canvas
