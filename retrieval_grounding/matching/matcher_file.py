"""Reading the network of a trained matcher from its file."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from safetensors.torch import load as load_tensors

from .early_exit import EarlyExit
from .matcher_header import MatcherHeader, damage_reported, read_header
from .model import MatcherModel
from .networks import make_model
from .residual_model import ResidualModel

__all__ = ["read_matcher_file"]


_EARLY = "early."


def read_matcher_file(
    path: Path, checksums: Collection[str] = ()
) -> tuple[MatcherHeader, MatcherModel]:
    """Read the file of a matcher.

    Parameters
    ----------
    path : Path
        The file.
    checksums : collection of str
        Those that it may have; empty if they were never recorded.

    Raises
    ------
    DamagedMatcherError
        If the file is missing, damaged or not a matcher.
    ModelError
        If it is of a different release.
    StoreError
        If it is not a regular file.
    """
    header, data = read_header(path, checksums)
    with damage_reported(path):
        # Initial weights take random numbers, which are the caller's. A network on the device
        # "meta" would need none, but PyTorch imports a thousand modules for it.
        tensors = load_tensors(data)
        with torch.random.fork_rng(devices=()):
            model = make_model(header.config)
            if isinstance(model, ResidualModel) and any(n.startswith(_EARLY) for n in tensors):
                model.early = EarlyExit(model.width)  # optional: without, regions are all scored
        model.load_state_dict(_as_floats(tensors, model), assign=True)
    return header, model.eval().requires_grad_(False)


def _as_floats(tensors: dict[str, torch.Tensor], model: MatcherModel) -> dict[str, torch.Tensor]:
    """Return the weights as float32, if they are those that the network needs."""
    expected = {name: value.shape for name, value in model.state_dict().items()}
    if tensors.keys() != expected.keys():
        raise ValueError("it has the weights of a different network")
    for name, shape in expected.items():
        if tensors[name].shape != shape or not tensors[name].is_floating_point():
            raise ValueError(f"its weights {name} are not numbers of the shape {tuple(shape)}")
    floats = {name: value.float() for name, value in tensors.items()}
    if not all(bool(torch.isfinite(value).all()) for value in floats.values()):
        raise ValueError("its weights are not finite")
    return floats
