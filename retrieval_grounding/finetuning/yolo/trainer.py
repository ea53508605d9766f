"""Ultralytics' own trainer, made to resume exactly and to leave nothing but its result."""

from __future__ import annotations

import contextlib
import importlib
import os
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import GroundingError
from ...core.progress import progress_bar
from ...models._quiet import quiet_libraries
from ..run_folder import RunFolder
from .options import YoloTuningOptions

__all__ = ["DivergedError", "train_network"]

_WARMUP_EPOCHS = 1
_WITHOUT_MOSAIC = 0.25  # of the epochs, the last ones
_ENVIRONMENT = ("CUBLAS_WORKSPACE_CONFIG", "PYTHONHASHSEED")


class DivergedError(GroundingError):
    """The loss is no longer a number."""


def train_network(
    run: RunFolder,
    name: str,
    network: Any,
    files: Path,
    names: list[str],
    image_size: int,
    device: str,
    options: YoloTuningOptions,
) -> tuple[Any, list[float]]:
    """Train a network, from the last epoch that a killed run has finished.

    Every epoch draws its random numbers anew and takes one step for each batch, so its result
    depends on the state before it alone: a run that resumes computes what it would have computed
    without the interruption, as far as the device computes the same twice.

    Parameters
    ----------
    run : RunFolder
        Keeps the state after each epoch.
    name : str
        Name of that state.
    network : torch.nn.Module
        What to start from; it is changed.
    files : path
        The list of training images, beside whose folder their labels are.
    names : list of str
        Its classes.
    image_size : int
        Longest side of its input.
    device : str
        As :func:`resolve_device` returns it.
    options : YoloTuningOptions
        Epochs, batch, rate.

    Returns
    -------
    network : torch.nn.Module
        The running average of the weights.
    losses : list of float
        Mean loss of each epoch.

    Raises
    ------
    DivergedError
        If the loss is no longer a number.
    """
    with quiet_libraries(), _own_random_numbers(), _own_environment():
        tuner = _make_tuner(run, name, files, names, image_size, device, options)
        tuner.model = network
        batches = options.epochs * -(-_count_lines(files) // options.batch_images)
        with progress_bar("Fine-tuning", batches, "batches", options.progress) as advance:
            tuner.advance = advance
            state = run.load_state(name)
            if state is None or len(state["losses"]) < options.epochs:
                tuner.train()
                state = run.load_state(name)
        assert state is not None
        average = tuner.ema.ema if tuner.ema is not None else network
        average.load_state_dict(state["ema"])
        return average, state["losses"]


def _make_tuner(
    run: RunFolder,
    name: str,
    files: Path,
    names: list[str],
    image_size: int,
    device: str,
    options: YoloTuningOptions,
) -> Any:
    import torch

    detect: Any = importlib.import_module("ultralytics.models.yolo.detect")
    unwrap: Any = importlib.import_module("ultralytics.utils.torch_utils").unwrap_model

    # Its name must not contain "Trainer": ultralytics attaches loggers and trackers to those.
    class Tuner(detect.DetectionTrainer):  # type: ignore[misc]
        advance: Callable[[int], None]
        losses: list[float]

        def get_dataset(self) -> Mapping[str, Any]:
            """Return what a YAML file would say; checking one may download a font."""
            one = files.with_name("first.txt")  # a trainer insists on images to validate with
            one.write_text(files.read_text("utf-8").splitlines()[0] + "\n", "utf-8")
            return {
                "path": str(files.parent), "train": str(files), "val": str(one),
                "names": dict(enumerate(names)), "nc": len(names), "channels": 3,
            }  # fmt: skip

        def run_callbacks(self, event: str) -> None:
            """Do what is ours, and nothing that others have attached."""
            if event == "on_train_start":
                self._restore()
            elif event == "on_train_epoch_start":
                self._begin_epoch()
            elif event == "on_train_batch_end":
                self.advance(1)

        def _restore(self) -> None:
            self.losses = []
            state = run.load_state(name)
            if state is None:
                return
            self.losses = list(state["losses"])
            self.start_epoch = len(self.losses)
            model = unwrap(self.model)
            model.load_state_dict(state["model"])
            self.ema.ema.load_state_dict(state["ema"])
            self.ema.updates = state["updates"]
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            self.scheduler.last_epoch = self.start_epoch - 1
            if getattr(model.model[-1], "one2one_cv3", None) is not None:
                model.criterion = model.init_criterion()  # whose weights change with the epoch
                for _ in range(self.start_epoch):
                    model.criterion.update()
            self.advance(self.start_epoch * len(self.train_loader))

        def _begin_epoch(self) -> None:
            """Make the epoch a function of its number and of the weights."""
            seed = options.seed * 100_003 + self.epoch
            _seed_everything(seed)
            loader = self.train_loader
            loader.generator.manual_seed(seed)
            loader.reset()
            images = loader.dataset
            images.buffer.clear()  # recent images, from which mosaics are made
            images.ims = [None] * len(images.ims)

        def _model_train(self) -> None:
            """Train with the statistics of batch norm as they are.

            Few images give poor ones, and a checkpoint whose norms are folded into its convolutions
            has none: its network would behave differently in training.
            """
            super()._model_train()
            for module in self.model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.eval()

        def validate(self) -> tuple[dict[str, float], None]:
            """Measure nothing: with few boxes referred to, its mean AP would mislead."""
            return {}, None

        def final_eval(self) -> None:
            pass

        def save_metrics(self, metrics: Mapping[str, float]) -> None:
            self.losses.append(float(sum(float(value) for value in self.tloss.values())))

        def save_model(self) -> bool:
            """Save the state in full precision; ultralytics rounds it, and drops the weights."""
            run.save_state(
                name,
                {
                    "model": unwrap(self.model).state_dict(),
                    "ema": self.ema.ema.state_dict(),
                    "updates": self.ema.updates,
                    "optimizer": self.optimizer.state_dict(),
                    "scaler": self.scaler.state_dict(),
                    "losses": self.losses,
                },
            )
            return True

        def _handle_nan_recovery(self, epoch: int) -> bool:
            if self.loss is not None and not bool(self.loss.isfinite()):
                raise DivergedError("training diverged")
            return False

    cuda = device.startswith("cuda")
    return Tuner(
        overrides={
            "task": "detect",
            "mode": "train",
            "model": "network.pt",  # never read: the network is set
            "data": "files",  # likewise
            "save_dir": str(run.path / "ultralytics"),
            "epochs": options.epochs,
            "batch": options.batch_images,
            "nbs": options.batch_images,  # one step for each batch
            "imgsz": image_size,
            "device": device.removeprefix("cuda:") if cuda else device,
            "workers": 4 if cuda else 0,
            # With amp=True, ultralytics would download a model to try it with.
            "amp": "bf16" if cuda and torch.cuda.is_bf16_supported() else False,
            "optimizer": "AdamW",
            "lr0": options.lr,
            "lrf": 0.01,
            "cos_lr": True,
            "momentum": 0.9,
            "warmup_epochs": _WARMUP_EPOCHS,
            "warmup_bias_lr": 0.0,
            "close_mosaic": max(1, round(_WITHOUT_MOSAIC * options.epochs)),
            "val": False,
            "plots": False,
            "save": True,
            "verbose": False,
            "seed": options.seed,
            "deterministic": True,
        }
    )


def _seed_everything(seed: int) -> None:
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _count_lines(file: Path) -> int:
    return len(file.read_text("utf-8").splitlines())


@contextlib.contextmanager
def _own_random_numbers() -> Iterator[None]:
    """Run a block that seeds every generator, and restore the user's state afterwards."""
    import torch

    states = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@contextlib.contextmanager
def _own_environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
