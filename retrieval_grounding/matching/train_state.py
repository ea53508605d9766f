"""The state of a training run, with the checkpoint from which it resumes."""

from __future__ import annotations

import logging
import math
import pickle
from dataclasses import astuple
from pathlib import Path
from typing import cast

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ..core.errors import ModelError
from ..storage.files import atomic_path, open_regular
from .history import Epoch, TrainingHistory
from .model import MatcherModel
from .options import TrainingOptions

__all__ = ["TrainingState"]


_WEIGHT_DECAY = 0.05
_AVERAGE_DECAY = 0.998
_OF_THE_DEVICE = ("lr", "foreach", "fused", "capturable")  # options of the optimizer
_EMBEDDINGS = ("words.word", "words.place", "words.role")

_log = logging.getLogger(__name__)


class TrainingState:
    """Everything that an interrupted training run needs to resume.

    Parameters
    ----------
    model : MatcherModel
        The network in training; it is not copied.
    options : TrainingOptions
        How it is trained.
    identity : str
        From :func:`.identity.training_identity`, to recognize checkpoints of other runs.
    """

    def __init__(self, model: MatcherModel, options: TrainingOptions, identity: str) -> None:
        self.history = TrainingHistory()
        self.model = model
        self.options = options
        # Averages of the weights over the last few hundred steps are steadier than the weights, and
        # better: they are what is validated and kept.
        device = next(model.parameters()).device
        self.averages = AveragedModel(model, device, avg_fn=_average, use_buffers=True)
        self.best_weights = _copy_weights(model)
        self.optimizer = _make_optimizer(model, options.lr, device)
        self.identity = identity

    @property
    def stopped_early(self) -> bool:
        """Whether no epoch has been better for as many epochs as patience allows."""
        best = self.history.best
        return best is not None and len(self.history.epochs) - best.number >= self.options.patience

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or training has stopped early or diverged."""
        done = len(self.history.epochs) >= self.options.epochs
        return done or self.stopped_early or self.history.diverged is not None

    @property
    def averaged(self) -> MatcherModel:
        """The network with averaged weights."""
        return cast(MatcherModel, self.averages.module)

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the next steps."""
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr

    def step(self, loss: torch.Tensor) -> torch.Tensor:
        """Let the weights and their averages follow a loss, and return it without its history."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self._average()
        return loss.detach()

    @torch.no_grad()
    def _average(self) -> None:
        """Let the averages follow the weights, on a GPU without waiting for it."""
        if self.averages.n_averaged.device.type == "cuda":
            _follow(self.averages, self.model)
        else:
            self.averages.update_parameters(self.model)

    def add(self, epoch: Epoch) -> None:
        """Record an epoch that has just ended, and its weights if it is the best so far."""
        if not (math.isfinite(epoch.loss + epoch.validation_loss) and _fit_a_file(self.averaged)):
            self.history.diverged = epoch.number
            return
        self.history.epochs.append(epoch)
        if self.history.best is epoch:
            self.best_weights = _copy_weights(self.averaged)

    def save(self, path: Path) -> None:
        """Write the checkpoint in one atomic step."""
        with atomic_path(path) as temporary:
            torch.save(
                {
                    "identity": self.identity,
                    "epochs": [list(astuple(epoch)) for epoch in self.history.epochs],
                    "model": self.model.state_dict(),
                    "averages": self.averages.state_dict(),
                    "best": self.best_weights,
                    "optimizer": self.optimizer.state_dict(),
                },
                temporary,
            )

    def load(self, path: Path) -> None:
        """Resume from a checkpoint.

        Raises
        ------
        ModelError
            If the file is not a checkpoint, or one of a different training run.
        StoreError
            If it is not a regular file.
        """
        try:
            with open_regular(path) as file:
                saved = torch.load(file, map_location="cpu", weights_only=True)
            if saved["identity"] != self.identity:
                raise ModelError(
                    f"{path} is the checkpoint of a different training run (other expressions or "
                    "options, images, models or release); delete it to start over"
                )
            self.model.load_state_dict(saved["best"])  # fails if they are of a different network
            self.model.load_state_dict(saved["model"])
            self.averages.load_state_dict(saved["averages"])
            for group, own in zip(
                saved["optimizer"]["param_groups"], self.optimizer.param_groups, strict=True
            ):
                group.update({name: own[name] for name in _OF_THE_DEVICE})
            self.optimizer.load_state_dict(saved["optimizer"])
            self.best_weights = saved["best"]
            epochs = [Epoch(int(row[0]), *map(float, row[1:])) for row in saved["epochs"]]
        except (
            OSError, EOFError, LookupError, TypeError, ValueError, AttributeError, RuntimeError,
            pickle.UnpicklingError,
        ) as error:  # fmt: skip
            raise ModelError(
                f"{path} is not a training checkpoint ({error}); delete it to start over"
            ) from error
        self.history.epochs = epochs
        _log.info("training resumes after epoch %d, from %s", len(epochs), path)


def _make_optimizer(model: MatcherModel, lr: float, device: torch.device) -> torch.optim.AdamW:
    """Return AdamW that decays weight matrices, but neither biases nor word embeddings.

    On a GPU it is one operation and can be recorded in a graph.
    """
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim > 1 and not name.startswith(_EMBEDDINGS)
        group = decayed if is_matrix else plain
        group.append(parameter)
    groups = [
        {"params": decayed, "weight_decay": _WEIGHT_DECAY},
        {"params": plain, "weight_decay": 0.0},
    ]
    betas = (0.9, 0.98)
    if device.type != "cuda":
        return torch.optim.AdamW(groups, lr, betas)
    rate = torch.tensor(lr, device=device)
    return torch.optim.AdamW(groups, rate, betas, fused=True, capturable=True)


def _average(
    averaged: torch.Tensor, current: torch.Tensor, steps: torch.Tensor | int
) -> torch.Tensor:
    """Return a running average, over few steps at first."""
    decay = min(_AVERAGE_DECAY, (1 + int(steps)) / (10 + int(steps)))
    return averaged + (1 - decay) * (current - averaged)


def _follow(averages: AveragedModel, model: nn.Module) -> None:
    """Do what `averages` does with `_average`, in few operations and without waiting for a GPU."""
    steps: torch.Tensor = averages.n_averaged
    averaged, current = ([*m.parameters(), *m.buffers()] for m in (averages.module, model))
    change = 1 - ((1 + steps) / (10 + steps)).clamp(max=_AVERAGE_DECAY)
    differences = torch._foreach_sub(current, averaged)
    torch._foreach_mul_(differences, torch.where(steps == 0, 1.0, change))
    torch._foreach_add_(averaged, differences)
    steps += 1


def _fit_a_file(model: nn.Module) -> bool:
    """Return whether all weights are finite in float16, as matcher files hold them."""
    return all(bool(value.half().isfinite().all()) for value in model.state_dict().values())


def _copy_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
