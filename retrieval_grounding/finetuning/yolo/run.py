"""Fine-tuning a YOLO detector, from images and boxes to a checkpoint."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from ...core.bootstrap import Estimate
from ...core.errors import GroundingError, SourceError
from ...core.paths import absolute_path
from ...core.progress import progress_bar
from ...core.regions import Regions
from ...core.types import PathLike
from ...core.version import __version__
from ...data.coco import read_coco
from ...data.expressions import ExpressionSet, read_expressions
from ...data.sources import as_list, find_images
from ...models.checks import detect_regions
from ...models.detector import DetectorSettings
from ...models.presets import BUNDLED
from ...models.yolo import UltralyticsDetector
from ...models.yolo_checkpoint import find_detector, load_yolo, save_yolo
from ...storage.catalog import Catalog
from ...storage.files import atomic_write_bytes
from ..guard import choose
from ..run_folder import RunFolder, file_digest, open_run
from .boxed_images import BoxedImage, Sets, split_images, store_images
from .network import with_classes
from .options import YoloTuningOptions
from .recall import BOXES, compare_overlap, compare_recall
from .report import YoloTuning
from .targets import Targets, make_targets, target_names
from .trainer import DivergedError, train_network

__all__ = ["finetune_yolo"]

_SETTINGS = DetectorSettings(max_boxes=max(BOXES), groups=False)
_IMAGES_AT_ONCE = 16
_GOAL = "the IoU of the best boxes"


def finetune_yolo(
    source: PathLike | Iterable[PathLike],
    output: PathLike,
    *,
    refs: PathLike | None = None,
    boxes: PathLike | None = None,
    detector: str = BUNDLED,
    splits: Sequence[str] | None = None,
    held_out: Sequence[str] = (),
    device: str = "auto",
    options: YoloTuningOptions | None = None,
) -> YoloTuning:
    """Fine-tune a YOLO detector, so that it finds what people refer to.

    The referred boxes are mixed with those that the detector itself is sure of, so that what no
    expression names is not taught to be background. A run that is killed resumes when it is
    started again with the same arguments. What it needs for that is in the folder
    ``OUTPUT.unfinished``; nothing else is written.

    Parameters
    ----------
    source : path or iterable of paths
        An index, whose images are used, or images as for :func:`build`; of these, only those that
        expressions name are looked at.
    output : path
        The ``.pt`` file to write; it must not exist.
    refs : path, optional
        Expressions, as for :func:`read_expressions`, whose boxes are used.
    boxes : path, optional
        Instead, a file of instances in COCO's format.
    detector : str
        The detector to start from, as for :func:`load_detector`.
    splits : sequence of str, optional
        Splits of `refs` to train on; all others by default.
    held_out : sequence of str
        Splits of `refs` to measure with; without any, a fifth of the images is held out.
    device : str
        Where to train: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    options : YoloTuningOptions, optional
        Epochs, rate, classes.

    Returns
    -------
    YoloTuning
        If ``kept_original`` is false, `output` is a checkpoint that ``--detector`` takes.

    Raises
    ------
    GroundingError
        If an input cannot be used, or `output` exists already.
    """
    options = options or YoloTuningOptions()
    started = time.perf_counter()
    target = _check_output(output)
    expressions = _read_boxes(refs, boxes, [*splits, *held_out] if splits else None)
    weights = find_detector(detector)
    settings = replace(_SETTINGS, image_size=options.image_size)
    original = UltralyticsDetector(weights, settings, device)
    with_classes(load_yolo(weights).model, (), (), weights.name)  # or a refusal, before the work
    facts = {
        "release": __version__,
        "images": [os.fspath(part) for part in as_list(source)],
        "detector": file_digest(weights),
        "boxes": _digest([repr(expression) for expression in expressions]),
        "held-out splits": list(held_out),
        "seed": options.seed,
        "image size": original.image_size,
    }
    with open_run(target.with_name(f"{target.name}.unfinished"), facts) as run:
        images, skipped = store_images(
            run, _image_paths(source), list(expressions), original.image_size, options.progress
        )
        if not images:
            reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common())
            raise SourceError(f"no box of {expressions.source} is on an image here ({reasons})")
        sets = split_images(images, options.seed, held_out)
        report, network = _tune(run, original, weights, sets, options)
        report.output, report.started_from = str(target), detector
        report.skipped = dict(skipped)
        report.seconds = time.perf_counter() - started
        if not report.kept_original:
            recall = {gain.boxes: round(gain.after.value, 4) for gain in report.recall}
            tuned = {"release": __version__, "recall@0.5": recall}
            target.parent.mkdir(parents=True, exist_ok=True)
            save_yolo(network, target, original.image_size, fine_tuned=tuned)
            run.delete()
    return report


def _tune(
    run: RunFolder,
    original: UltralyticsDetector,
    weights: Path,
    sets: Sets,
    options: YoloTuningOptions,
) -> tuple[YoloTuning, Any]:
    """Train and compare; return what came of it, and the new network."""
    found = _detect(run, original, sets.all, options)
    targets = {
        image.content_hash: make_targets(image, regions, options.class_agnostic)
        for image, regions in zip(sets.all, found, strict=True)
    }
    before = found[len(sets.training) :]
    own = list(original.class_names.values())
    training = {image.content_hash: targets[image.content_hash] for image in sets.training}
    names = target_names(own, training, options.class_agnostic)
    report = YoloTuning(
        output="",
        started_from="",
        images=(len(sets.training), len(sets.held_out)),
        boxes=(_count(sets.training), _count(sets.held_out)),
        pseudo_boxes=sum(len(t.boxes) - t.referred for t in training.values()),
        classes=len(names),
        options=options.as_dict(),
    )
    network = with_classes(load_yolo(weights).model, own, names, weights.name)
    files = _write_labels(run, sets.training, targets, names)
    try:
        state = f"training-{_digest(options.as_dict())[:8]}"
        network, report.losses = train_network(
            run, state, network, files, names, original.image_size, original.device, options
        )
    except DivergedError as error:
        report.reason = str(error)
        return report, network
    candidate = run.path / "candidate.pt"
    save_yolo(network, candidate, original.image_size)
    tuned = UltralyticsDetector(candidate, original.settings, original.device)
    after = _detect(run, tuned, sets.held_out, options)
    report.recall = compare_recall(sets.held_out, before, after)
    report.known = compare_recall(_known(sets.held_out, targets), before, after)
    report.overlap = compare_overlap(sets.held_out, before, after)
    # What is no longer found is lost to every matcher, so nothing makes up for it.
    recall = {f"recall@0.5 of {gain.boxes} boxes": gain for gain in report.recall}
    first = {name: gain.before.value for name, gain in recall.items()}
    second = {name: gain.after.value for name, gain in recall.items()}
    first[_GOAL] = _mean(gain.before for gain in report.overlap)
    second[_GOAL] = _mean(gain.after for gain in report.overlap)
    report.reason = choose(first, {1.0: second}, _GOAL, list(recall), may_fall=0.0).reason
    return report, network


def _mean(estimates: Iterable[Estimate]) -> float:
    """Return the mean over the numbers of boxes; if no box is held out, nothing can rise."""
    return sum(estimate.value for estimate in estimates) / len(BOXES)


def _known(images: Sequence[BoxedImage], targets: dict[str, Targets]) -> list[BoxedImage]:
    """Return the images with the boxes that the detector was sure of and nobody referred to."""
    known = []
    for image in images:
        own = targets[image.content_hash]
        rows = slice(own.referred, None)
        known.append(replace(image, boxes=own.boxes[rows], categories=own.names[rows]))
    return known


def _detect(
    run: RunFolder,
    detector: UltralyticsDetector,
    images: Sequence[BoxedImage],
    options: YoloTuningOptions,
) -> list[Regions]:
    """Return the single detections in each image, by decreasing confidence."""
    results: list[Regions] = []
    with progress_bar("Detecting", len(images), "images", options.progress) as advance:
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            batch = images[start : start + _IMAGES_AT_ONCE]
            with contextlib.ExitStack() as files:
                opened = [files.enter_context(Image.open(image.file(run))) for image in batch]
                found = detect_regions(detector, [image.convert("RGB") for image in opened])
            results += [regions[1:] for regions in found]
            advance(len(batch))
    return results


def _write_labels(
    run: RunFolder, images: Sequence[BoxedImage], targets: dict[str, Targets], names: list[str]
) -> Path:
    """Write ultralytics' label files, and return the list of images."""
    numbers = {name: number for number, name in enumerate(names)}
    (run.path / "labels").mkdir(exist_ok=True)
    for image in images:
        own = targets[image.content_hash]
        scale = [*image.size, *image.size]
        lines = []
        for name, (x1, y1, x2, y2) in zip(own.names, (own.boxes / scale).tolist(), strict=True):
            center = f"{(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f}"
            lines.append(f"{numbers[name]} {center} {x2 - x1:.6f} {y2 - y1:.6f}\n")
        text = "".join(lines).encode()
        atomic_write_bytes(run.path / "labels" / f"{image.content_hash}.txt", text)
    files = run.path / "train.txt"
    listed = "".join(f"./images/{image.content_hash}.jpg\n" for image in images)
    atomic_write_bytes(files, listed.encode())
    return files


def _read_boxes(
    refs: PathLike | None, boxes: PathLike | None, splits: Sequence[str] | None
) -> ExpressionSet:
    if (refs is None) == (boxes is None):
        raise GroundingError("name either a file of expressions or a COCO file of boxes")
    return read_coco(boxes) if refs is None else read_expressions(refs, splits=splits)  # type: ignore[arg-type]


def _image_paths(source: PathLike | Iterable[PathLike]) -> list[str]:
    parts = as_list(source)
    if len(parts) == 1 and Catalog.exists(path := Path(absolute_path(parts[0]))):
        with contextlib.closing(Catalog(path)) as catalog:
            return [image.path for image in catalog.images()]
    return find_images(source)


def _check_output(output: PathLike) -> Path:
    target = Path(absolute_path(output))
    if target.suffix.lower() != ".pt":
        raise GroundingError(f"use a name that ends in .pt, not {target.name}")
    if os.path.lexists(target):
        raise GroundingError(f"{target} exists; name a new file for the detector")
    return target


def _count(images: Sequence[BoxedImage]) -> int:
    return sum(len(image.boxes) for image in images)


def _digest(value: Any) -> str:
    data = json.dumps(value, sort_keys=True).encode()
    return hashlib.blake2b(data, digest_size=16).hexdigest()
