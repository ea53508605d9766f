"""Regions of the training photographs, and what the encoder's frozen layers make of them.

Regions are those of an index, that is, the whole photograph, detections and groups, and beside
them the boxes that people drew where no region is nearly the same. Each is run once through the
frozen layers, whose output is kept on disk.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from retrieval_grounding.core.colors import region_colors
from retrieval_grounding.core.groups import group_label, is_group, member_label
from retrieval_grounding.core.regions import WHOLE_IMAGE, Regions, pairwise_iou
from retrieval_grounding.data.images import load_image
from retrieval_grounding.models.cpu_pool import cpu_pool
from retrieval_grounding.models.fixed_batches import FixedBatches
from retrieval_grounding.models.openvino import has_openvino, openvino_tower
from retrieval_grounding.models.yolo import UltralyticsDetector

from .dual_encoder import MAP_SHAPE, DualEncoder
from .export import INPUT_SIZE

WHOLE, DETECTED, HUMAN, GROUP = range(4)
"""Kinds of regions."""

NO_LABEL = -1

_SAME_BOX = 0.75
_SMALLEST_SIDE = 2.0
_PHOTOS_AT_ONCE = 32
_CROPS_PER_THREAD = 16
_CROPS_ON_GPU = 256
_HUMAN_LABEL = ""
_TABLE, _MAPS = "regions.npz", "maps.f16"


@dataclass(frozen=True)
class RegionCache:
    """The regions of photographs, photograph by photograph; the first is the whole photograph.

    Parameters
    ----------
    names : list of m str
        File names of the photographs.
    sizes : int array of shape (m, 2)
        Width and height in pixels.
    offsets : int array of shape (m + 1,)
        Rows ``offsets[i]:offsets[i + 1]`` belong to photograph i.
    boxes : float32 array of shape (n, 4)
        Corners as fractions of the photograph's sides.
    scores : float32 array of shape (n,)
        Confidence of the detector, 0 for human boxes.
    labels : int array of shape (n,)
        Index in `classes`, of a group that of its members, else NO_LABEL.
    kinds : int array of shape (n,)
        WHOLE, DETECTED, HUMAN or GROUP.
    colors : uint8 array of shape (n, 11)
        Shares of the basic colors.
    classes : list of str
        Class names of the detector.
    maps : float16 array of shape (n, 192, 7, 7)
        Output of the frozen layers, mapped from disk.
    """

    names: list[str]
    sizes: np.ndarray
    offsets: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    kinds: np.ndarray
    colors: np.ndarray
    classes: list[str]
    maps: np.ndarray

    @property
    def numbers(self) -> dict[str, int]:
        """The number of each photograph, by its name."""
        return {name: number for number, name in enumerate(self.names)}

    @property
    def photos(self) -> np.ndarray:
        """The number of each region's photograph, int (n,)."""
        photos: np.ndarray = np.repeat(np.arange(len(self.names)), np.diff(self.offsets))
        return photos

    def rows(self, photo: int) -> np.ndarray:
        """Return the rows of photograph number `photo`."""
        return np.arange(self.offsets[photo], self.offsets[photo + 1])

    def indexed_rows(self, photo: int) -> np.ndarray:
        """Return the rows that an index would have: all but human boxes."""
        rows = self.rows(photo)
        return rows[self.kinds[rows] != HUMAN]

    def label_names(self, rows: np.ndarray) -> list[str]:
        """Return the labels of rows that an index would have, as an index has them."""
        names = [self.classes[label] for label in self.labels[rows]]
        return [
            WHOLE_IMAGE if kind == WHOLE else group_label(name) if kind == GROUP else name
            for kind, name in zip(self.kinds[rows], names, strict=True)
        ]


def open_regions(folder: Path) -> RegionCache:
    """Open what `cache_regions` wrote."""
    with np.load(folder / _TABLE) as table:
        columns = {name: table[name] for name in table.files if name != "origin"}
    columns["names"] = [str(name) for name in columns["names"]]
    columns["classes"] = [str(name) for name in columns["classes"]]
    shape = (len(columns["boxes"]), *MAP_SHAPE)
    return RegionCache(**columns, maps=np.memmap(folder / _MAPS, np.float16, "r", shape=shape))


def cache_regions(
    folder: Path,
    paths: Sequence[Path],
    human: Mapping[str, np.ndarray],
    encoder: DualEncoder,
    detector: UltralyticsDetector,
) -> RegionCache:
    """Detect, cut and run all regions, unless the folder has those of the same input already.

    Parameters
    ----------
    folder : Path
        Where the table and the maps go; created if it is missing.
    paths : sequence of Path
        Photographs.
    human : mapping of str to float32 array of shape (n, 4)
        Boxes that people drew, by file name, as fractions of the sides.
    encoder : DualEncoder
        Its frozen layers are run.
    detector : UltralyticsDetector
        Finds regions, with groups.
    """
    origin = _origin(paths, human, encoder, detector)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / _TABLE).exists():
        with np.load(folder / _TABLE) as table:
            if str(table["origin"]) == origin:
                print(f"{folder.name}: kept {len(table['boxes'])} regions", flush=True)
                return open_regions(folder)
        (folder / _TABLE).unlink()  # its maps are about to be overwritten
    classes = [detector.class_names[number] for number in sorted(detector.class_names)]
    codes = {name: code for code, name in enumerate(classes)}
    frozen = _FrozenLayers(encoder.frozen, encoder.device)
    found: list[Regions] = []
    colors: list[np.ndarray] = []
    sizes: list[tuple[int, int]] = []
    began = time.monotonic()
    with ThreadPoolExecutor() as pool, (folder / _MAPS).open("wb") as file:
        for start in range(0, len(paths), _PHOTOS_AT_ONCE):
            some = paths[start : start + _PHOTOS_AT_ONCE]
            images = list(pool.map(load_image, some))
            regions = [
                _with_human(own, human.get(path.name), image)
                for own, path, image in zip(detector.detect(images), some, images, strict=True)
            ]
            pixels = np.concatenate(list(pool.map(_cut, images, regions)))
            file.write(frozen(pixels).tobytes())
            colors += pool.map(lambda i, r: region_colors(i, r.boxes), images, regions)
            found += regions
            sizes += [image.size for image in images]
            if start // _PHOTOS_AT_ONCE % 10 == 0:
                count, rate = sum(map(len, found)), time.monotonic() - began
                print(
                    f"{folder.name}: {start + len(some)} / {len(paths)} photographs, {count} "
                    f"regions, {count / rate:.0f}/s",
                    flush=True,
                )
    counts = [len(regions) for regions in found]
    labels = [label for regions in found for label in regions.labels]
    whole = np.repeat(np.array(sizes, np.float32), counts, axis=0)
    partial = folder / "regions.part.npz"
    np.savez(
        partial,
        origin=np.array(origin),
        names=np.array([path.name for path in paths]),
        sizes=np.array(sizes),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=np.concatenate([r.boxes for r in found]) / np.tile(whole, (1, 2)),
        scores=np.concatenate([r.scores for r in found]),
        labels=np.array([codes.get(member_label(label), NO_LABEL) for label in labels]),
        kinds=np.array([_kind(label) for label in labels], np.int8),
        colors=np.concatenate(colors),
        classes=np.array(classes),
    )
    partial.replace(folder / _TABLE)
    seconds = time.monotonic() - began
    print(f"{folder.name}: {len(labels)} regions in {seconds:.0f} s", flush=True)
    return open_regions(folder)


def _origin(
    paths: Sequence[Path],
    human: Mapping[str, np.ndarray],
    encoder: DualEncoder,
    detector: UltralyticsDetector,
) -> str:
    """Return a hash of everything that regions and maps depend on."""
    digest = hashlib.blake2b(f"{encoder.weights}\0{detector.fingerprint}".encode(), digest_size=16)
    files = [(path.name, path.stat().st_size) for path in paths]
    digest.update(json.dumps(files).encode())
    for name, _ in files:
        digest.update(human[name].tobytes() if name in human else b"")
    return digest.hexdigest()


def _kind(label: str) -> int:
    if label == WHOLE_IMAGE:
        return WHOLE
    if label == _HUMAN_LABEL:
        return HUMAN
    return GROUP if is_group(label) else DETECTED


def _with_human(regions: Regions, human: np.ndarray | None, image: Image.Image) -> Regions:
    """Add human boxes that no region is nearly the same as."""
    if human is None:
        return regions
    boxes = regions.boxes
    for box in human * np.tile(np.array(image.size, np.float32), 2):
        if (box[2:] - box[:2]).min() >= _SMALLEST_SIDE and (
            pairwise_iou(box[None], boxes).max() < _SAME_BOX
        ):
            boxes = np.concatenate([boxes, box[None]])
    new = boxes[len(regions) :]
    return Regions.concatenate(
        [regions, Regions(new, np.zeros(len(new)), [_HUMAN_LABEL] * len(new))]
    )


def _cut(image: Image.Image, regions: Regions) -> np.ndarray:
    """Return the crops that the encoder sees, uint8 (n, 224, 224, 3), as the library cuts them."""
    size = (INPUT_SIZE, INPUT_SIZE)
    return np.stack(
        [
            np.asarray(image.resize(size, Image.Resampling.BICUBIC, tuple(box), reducing_gap=2.0))
            for box in regions.boxes.tolist()
        ]
    )


class _FrozenLayers:
    """Runs the frozen layers: on a CPU in threads, with OpenVINO if it is installed.

    On a GPU, batches have one size, since cuDNN compiles kernels for each.
    """

    def __init__(self, layers: nn.Module, device: torch.device) -> None:
        self._device = device
        self._layers: Any = nn.Sequential(layers, nn.Flatten())
        if device.type == "cpu" and has_openvino():
            example = torch.linspace(-1, 1, 3 * INPUT_SIZE**2).view(1, 3, INPUT_SIZE, INPUT_SIZE)
            self._layers = openvino_tower(self._layers, example, cpu_pool().size) or self._layers
        elif device.type == "cuda":
            layers_on_gpu = self._layers
            self._layers = FixedBatches(lambda: layers_on_gpu, [_CROPS_ON_GPU])

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return maps, float16 (n, 192, 7, 7), of crops, uint8 (n, 224, 224, 3)."""
        on_cpu = self._device.type == "cpu"
        each = _CROPS_PER_THREAD if on_cpu else _CROPS_ON_GPU
        parts = [pixels[start : start + each] for start in range(0, len(pixels), each)]
        maps = cpu_pool().map(self._run, parts) if on_cpu else [self._run(part) for part in parts]
        return np.concatenate(maps).reshape(-1, *MAP_SHAPE)

    @torch.inference_mode()
    def _run(self, pixels: np.ndarray) -> np.ndarray:
        values = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2).float()
        maps: np.ndarray = self._layers(values / 127.5 - 1).half().cpu().numpy()
        return maps
