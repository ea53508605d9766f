"""Reading the file of a trained matcher, which may come from a stranger."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..core.errors import ModelError
from ..core.strict_json import parse_json
from ..models.encoder import Fingerprint
from ..storage.files import open_regular
from .calibration import Calibration
from .model import MatcherConfig, MatcherModel
from .networks import make_model

__all__ = ["FORMAT", "MatcherFile", "read_matcher_file"]

FORMAT = 2
"""The version of the format that this release reads and writes."""

_MAX_SIZES = {"dimension": 1 << 16, "words": 1 << 20, "width": 1 << 12}
_FLOATS = ("F16", "BF16", "F32")
_MAX_TEXT = 4096


@dataclass(frozen=True)
class MatcherFile:
    """What the file of a matcher contains; see :class:`.trained.TrainedMatcher`."""

    model: MatcherModel
    config: MatcherConfig
    vocabulary: list[str]
    encoder: Fingerprint
    calibration: Calibration | None
    trained_on: str


def read_matcher_file(path: Path) -> MatcherFile:
    """Read the file of a matcher.

    Sizes are compared with what the file has before anything of that size is allocated.

    Raises
    ------
    ModelError
        If the file is missing, damaged, not a matcher, or of a different release.
    StoreError
        If it is not a regular file.
    """
    try:
        open_regular(path).close()
        with safe_open(path, "pt") as file:
            description = parse_json((file.metadata() or {})["matcher"])
            _check_format(path, description["format"])
            config = _parse_config(description["config"])
            _check_size(file, config)
            model = make_model(config)
            model.load_state_dict(_read_tensors(file, model))
        vocabulary = _parse_vocabulary(description["vocabulary"], config.words)
        encoder = {name: _text(part) for name, part in description["encoder"].items()}
        calibration = description["calibration"]
        return MatcherFile(
            model.eval().requires_grad_(False),
            config,
            vocabulary,
            Fingerprint(**encoder),
            None if calibration is None else Calibration(**calibration),
            _text(description["trained_on"]),
        )
    except (
        OSError, SafetensorError, LookupError, TypeError, ValueError, AttributeError, RuntimeError,
    ) as error:  # fmt: skip
        raise ModelError(
            f"{path} is not a matcher of this release ({error}); train one with "
            "'retrieval-grounding train'"
        ) from error


def _check_format(path: Path, version: Any) -> None:
    if type(version) is not int:
        raise ValueError("its format version is not a number")
    if version > FORMAT:
        raise ModelError(f"{path} is from a newer release; upgrade retrieval_grounding")
    if version < FORMAT:
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
    if config.width < 2 or config.width % 2 or not config.dimension:
        raise ValueError("the size of its network is impossible")
    return config


def _check_size(file: Any, config: MatcherConfig) -> None:
    """Refuse a network that needs far more memory than the file has numbers."""
    stored = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    # The largest layers have at least so many weights, and the others are not much larger.
    needed = config.width * (config.dimension + config.width)
    if config.kind == "residual":
        needed += config.words * config.width
    if needed > stored:
        raise ValueError(f"its network has more than {stored} weights")


def _read_tensors(file: Any, model: MatcherModel) -> dict[str, torch.Tensor]:
    """Return the weights as float32, if they are those that the network needs."""
    expected = {name: list(value.shape) for name, value in model.state_dict().items()}
    if set(file.keys()) != expected.keys():
        raise ValueError("it has the weights of a different network")
    for name, shape in expected.items():
        stored = file.get_slice(name)
        if stored.get_shape() != shape or stored.get_dtype() not in _FLOATS:
            raise ValueError(f"its weights {name} are not numbers of the shape {shape}")
    tensors = {name: file.get_tensor(name).float() for name in expected}
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise ValueError("its weights are not finite")
    return tensors


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
