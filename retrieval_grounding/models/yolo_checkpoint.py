"""Checkpoints of YOLO models: finding them, loading them safely, and writing them."""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.errors import ModelError
from ..core.output_file import write_output
from ._quiet import keep_generator, quiet_libraries
from .presets import BUNDLED, bundled_path

__all__ = ["find_detector", "is_published_detector", "load_yolo", "save_yolo"]

TASKS = ("detect", "segment")
"""Kinds of models that find boxes; masks are not used."""


def is_published_detector(spec: str) -> bool:
    """Return whether `spec` names bundled weights or a model that ultralytics publishes.

    A published name that is also a file in the current folder is that file.
    """
    if spec == BUNDLED:
        return True
    with quiet_libraries():
        from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES
    return spec in GITHUB_ASSETS_NAMES and not os.path.lexists(spec)


def find_detector(spec: str) -> Path:
    """Return the file of a detector: bundled, on this machine, or published and then downloaded.

    Raises
    ------
    ModelError
        If there is no such file and no such published model, or it cannot be downloaded.
    """
    if spec == BUNDLED:
        return bundled_path("detector")
    if Path(spec).exists():
        return Path(spec)
    with quiet_libraries():
        from torch import hub
        from ultralytics.utils.downloads import attempt_download_asset
    if not is_published_detector(spec):
        raise ModelError(
            f"there is no file {spec!r}, and ultralytics publishes no model of that name; "
            "name a .pt file, a published model such as yolo11s.pt, or nano"
        )
    cached = Path(hub.get_dir()) / "checkpoints" / spec
    try:
        with quiet_libraries():
            cached.parent.mkdir(parents=True, exist_ok=True)
            attempt_download_asset(cached)
    except Exception as error:  # requests, urllib and ultralytics each raise their own
        raise ModelError(
            f"the detector {spec} could not be downloaded (is the network reachable?); "
            "use the bundled one with --detector nano, or name a .pt file on this machine"
        ) from error
    return cached


def load_yolo(weights: Path) -> Any:
    """Load a checkpoint against ultralytics' list of known classes, as an ultralytics ``YOLO``.

    Raises
    ------
    ModelError
        If the file is missing, damaged, or not a model that finds boxes.
    """
    if not weights.is_file():
        raise ModelError(f"the detector checkpoint {str(weights)!r} does not exist")
    if _is_legacy_yolov5(weights):
        raise ModelError(
            f"{weights.name} is a checkpoint of the old ultralytics/yolov5 repository, which "
            "ultralytics cannot load; use the same model in the current format, such as "
            "yolov5nu.pt, yolov5su.pt or yolov5mu.pt"
        )
    try:
        with quiet_libraries():
            from ultralytics.models import YOLO

            with _known_classes_only(), keep_generator():
                yolo = YOLO(str(weights), task="detect")
            finds_boxes = yolo.task in TASKS and bool(yolo.names)
    except Exception as error:  # a damaged file may fail anywhere in zip, pickle or torch
        raise ModelError(
            f"{str(weights)!r} is not a YOLO checkpoint that ultralytics can load safely; "
            "name a .pt file that ultralytics has saved"
        ) from error
    if not finds_boxes:
        raise ModelError(
            f"{weights.name} is a {yolo.task} model; a detection or segmentation model is needed"
        )
    return yolo


def save_yolo(network: Any, path: Path, image_size: int, **facts: Any) -> None:
    """Write a network as an ordinary ultralytics checkpoint, in half precision.

    Parameters
    ----------
    network : torch.nn.Module
        The ultralytics network; it stays as it is.
    path : path
        The ``.pt`` file to write, in one step.
    image_size : int
        The size of the longest side that it works with.
    facts
        Plain values to keep beside it.

    Raises
    ------
    GroundingError
        If it cannot be written.
    """
    import torch
    from ultralytics import __version__

    saved = copy.deepcopy(network).half().to(memory_format=torch.contiguous_format).eval()
    for local in ("pt_path", "criterion"):  # a path of this machine, and what only training needs
        saved.__dict__.pop(local, None)
    arguments = {"task": saved.task, "imgsz": image_size, "data": None, "single_cls": False}
    saved.args = arguments
    file = io.BytesIO()
    torch.save(
        {
            **facts,
            "model": saved,
            "train_args": arguments,
            "version": __version__,
            "license": "AGPL-3.0 (https://ultralytics.com/license)",
        },
        file,
    )
    write_output(path, file.getvalue())


@contextlib.contextmanager
def _known_classes_only() -> Iterator[None]:
    """Make ultralytics unpickle against its list of known classes, even if already imported.

    It reads ``ULTRALYTICS_SAFE_LOAD`` on import. A user who sets that to false has the last word.
    """
    tasks: Any = importlib.import_module("ultralytics.nn.tasks")
    wanted = os.environ["ULTRALYTICS_SAFE_LOAD"].lower() not in ("0", "false", "no", "off")
    before = getattr(tasks, "SAFE_LOAD", False)
    tasks.SAFE_LOAD = wanted
    try:
        yield
    finally:
        tasks.SAFE_LOAD = before


def _is_legacy_yolov5(weights: Path) -> bool:
    """Return whether the pickle, which is not executed, names classes of ultralytics/yolov5."""
    try:
        with zipfile.ZipFile(weights) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            return any(b"cmodels.yolo\n" in archive.read(name) for name in pickles)
    except (OSError, zipfile.BadZipFile):
        return False
