"""Reading the file of a trained matcher, which may come from a stranger."""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors

from ..core.errors import ModelError
from ..core.strict_json import parse_json
from ..models.encoder import Fingerprint
from ..storage.files import file_checksum, open_regular
from .calibration import Calibration
from .model import MATCHER_FORMAT, MatcherConfig, MatcherModel
from .networks import make_model
from .recipe import Recipe
from .training_images import TrainingImages

__all__ = ["DamagedMatcherError", "MatcherFile", "read_matcher_file"]

_MAX_BYTES = 1 << 28
_MAX_SIZES = {"dimension": 1 << 16, "words": 1 << 20, "width": 1 << 12}
_MAX_TEXT = 4096


class DamagedMatcherError(ModelError):
    """A matcher's file cannot be read, is damaged, or is not a matcher."""


@dataclass(frozen=True)
class MatcherFile:
    """What the file of a matcher contains; see :class:`.trained.TrainedMatcher`.

    `recipe` says what is combined with the network; None if nothing is.
    """

    model: MatcherModel
    config: MatcherConfig
    vocabulary: list[str]
    encoder: Fingerprint
    calibration: Calibration | None
    trained_on: str
    images: TrainingImages | None
    recipe: Recipe | None = None


def read_matcher_file(path: Path, checksums: Collection[str] = ()) -> MatcherFile:
    """Read the file of a matcher.

    Sizes are compared with what the file has before anything of that size is allocated.

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
    try:
        data = _read(path, checksums)
        tensors = load_tensors(data)
        description = parse_json(_metadata(data)["matcher"])
        _check_format(path, description["format"])
        config = _parse_config(description["config"])
        _check_size(tensors, config)
        # Initial weights take random numbers, which are the caller's. A network on the device
        # "meta" would need none, but PyTorch imports a thousand modules for it.
        with torch.random.fork_rng(devices=()):
            model = make_model(config)
        model.load_state_dict(_as_floats(tensors, model), assign=True)
        vocabulary = _parse_vocabulary(description["vocabulary"], config.words)
        encoder = {name: _text(part) for name, part in description["encoder"].items()}
        calibration, images = description["calibration"], description.get("images")
        recipe = description.get("recipe")
        return MatcherFile(
            model.eval().requires_grad_(False),
            config,
            vocabulary,
            Fingerprint(**encoder),
            None if calibration is None else Calibration.from_dict(calibration),
            _text(description["trained_on"]),
            None if images is None else TrainingImages.from_dict(images),
            None if recipe is None else Recipe.from_dict(recipe),
        )
    except (
        OSError, SafetensorError, LookupError, TypeError, ValueError, AttributeError, RuntimeError,
    ) as error:  # fmt: skip
        raise DamagedMatcherError(
            f"{path} is not a matcher of this release ({error}); train one with "
            "'retrieval-grounding train'"
        ) from error


def _read(path: Path, checksums: Collection[str]) -> bytes:
    """Return the content of a matcher file, after comparing its checksum."""
    with open_regular(path) as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ValueError("it is too large")
    if checksums and file_checksum(io.BytesIO(data)) not in checksums:
        raise ValueError("its checksum differs from the recorded one")
    return data


def _metadata(data: bytes) -> Any:
    """Return the texts in the header of a safetensors file, which has been checked."""
    size = int.from_bytes(data[:8], "little")
    return parse_json(data[8 : 8 + size])["__metadata__"]


def _check_format(path: Path, version: Any) -> None:
    if type(version) is not int:
        raise ValueError("its format version is not a number")
    if version > MATCHER_FORMAT:
        raise ModelError(f"{path} is from a newer release; upgrade retrieval_grounding")
    if version < MATCHER_FORMAT:
        raise ModelError(
            f"{path} is from an older release with a different network; train it again "
            "with 'retrieval-grounding train'"
        )


def _parse_config(value: dict[str, Any]) -> MatcherConfig:
    config = MatcherConfig(**value)
    if config.kind not in ("residual", "concat"):
        raise ValueError("it is a network of an unknown kind")
    for name, largest in _MAX_SIZES.items():
        size = getattr(config, name)
        if type(size) is not int or not 0 <= size <= largest:
            raise ValueError(f"the {name} of its network is not a number from 0 to {largest}")
    needs_dimension = config.kind == "concat"
    if config.width < 2 or config.width % 2 or (needs_dimension and not config.dimension):
        raise ValueError("the size of its network is impossible")
    return config


def _check_size(tensors: dict[str, torch.Tensor], config: MatcherConfig) -> None:
    """Refuse a network that needs far more memory than the file has numbers."""
    stored = sum(value.numel() for value in tensors.values())
    # The largest layers have at least so many weights, and the others are not much larger.
    needed = config.width * (config.dimension + config.width)
    if config.kind == "residual":
        needed += config.words * config.width
    if needed > stored:
        raise ValueError(f"its network has more than {stored} weights")


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


def _parse_vocabulary(value: Any, words: int) -> list[str]:
    if not isinstance(value, list):
        raise TypeError("its vocabulary is not a list")
    vocabulary = [_text(word) for word in value]
    if len(vocabulary) != words:
        raise ValueError(f"{len(vocabulary)} words for a network with {words}")
    return vocabulary


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise TypeError("it has something else where text belongs")
    return value
