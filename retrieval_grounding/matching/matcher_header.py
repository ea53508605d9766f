"""The header of a trained matcher's file, which may come from a stranger, without PyTorch."""

from __future__ import annotations

import contextlib
import errno
import io
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors

from ..core.errors import ModelError, StoreError
from ..core.strict_json import parse_json
from ..models.encoder import Fingerprint
from ..storage.files import file_checksum, open_regular
from .calibration import Calibration
from .config import MATCHER_FORMAT, MatcherConfig
from .recipe import Recipe
from .training_images import TrainingImages

__all__ = [
    "DamagedMatcherError",
    "MatcherHeader",
    "check_encoder",
    "damage_reported",
    "read_header",
]

_MAX_BYTES = 1 << 28
_MAX_SIZES = {"dimension": 1 << 16, "words": 1 << 20, "width": 1 << 12}
_MAX_TEXT = 4096

_deserialize: Any = safetensors.deserialize  # checks that the header and the data agree


class DamagedMatcherError(ModelError):
    """A matcher's file cannot be read, is damaged, or is not a matcher."""


@dataclass(frozen=True)
class MatcherHeader:
    """What a matcher's file says beside its weights; see :class:`.trained.TrainedMatcher`.

    `recipe` says what is combined with the network; None if nothing is. The calibration is that of
    the combination.
    """

    config: MatcherConfig
    vocabulary: list[str]
    encoder: Fingerprint
    calibration: Calibration | None
    trained_on: str
    images: TrainingImages | None
    recipe: Recipe | None = None

    def check(self, encoder: Fingerprint) -> None:
        """Refuse embeddings that the matcher cannot score; see :func:`check_encoder`."""
        check_encoder(self.config, self.encoder, encoder)


@contextlib.contextmanager
def damage_reported(path: Path) -> Iterator[None]:
    """Turn what reading a damaged file raises into :class:`DamagedMatcherError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise StoreError(
                f"{path} cannot be opened, because too many files are open; raise the limit with "
                "'ulimit -n'"
            ) from error
        raise _damage(path, error) from error
    except (
        safetensors.SafetensorError, LookupError, TypeError, ValueError, AttributeError,
        RuntimeError,
    ) as error:  # fmt: skip
        raise _damage(path, error) from error


def _damage(path: Path, error: Exception) -> DamagedMatcherError:
    return DamagedMatcherError(
        f"{path} is not a matcher of this release ({error}); train one with "
        "'retrieval-grounding train'"
    )


def read_header(path: Path, checksums: Collection[str] = ()) -> tuple[MatcherHeader, bytes]:
    """Return the header of a matcher's file, and the content of the file.

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
    with damage_reported(path):
        data = _read(path, checksums)
        stored = sum(math.prod(tensor["shape"]) for _, tensor in _deserialize(data))
        description = parse_json(_metadata(data)["matcher"])
        _check_format(path, description["format"])
        config = _parse_config(description["config"])
        _check_size(stored, config)
        vocabulary = _parse_vocabulary(description["vocabulary"], config.words)
        encoder = {name: _text(part) for name, part in description["encoder"].items()}
        calibration, images = description["calibration"], description.get("images")
        recipe = description.get("recipe")
        header = MatcherHeader(
            config,
            vocabulary,
            Fingerprint(**encoder),
            None if calibration is None else Calibration.from_dict(calibration),
            _text(description["trained_on"]),
            None if images is None else TrainingImages.from_dict(images),
            None if recipe is None else Recipe.from_dict(recipe),
        )
    return header, data


def check_encoder(config: MatcherConfig, trained_with: Fingerprint, encoder: Fingerprint) -> None:
    """Refuse a matcher for embeddings of a different encoder, unless it serves any.

    Raises
    ------
    ModelError
        If `encoder` is not the one that the matcher was trained with, and it needs that one.
    """
    if not config.any_encoder and not trained_with.matches(encoder):
        raise ModelError(
            f"the matcher was trained on embeddings of {trained_with}, but these are of "
            f"{encoder}; train it again with 'retrieval-grounding train'"
        )


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


def _check_size(stored: int, config: MatcherConfig) -> None:
    """Refuse a network that needs far more memory than the file has numbers."""
    # The largest layers have at least this many weights, and the others are not much larger.
    needed = config.width * (config.dimension + config.width)
    if config.kind == "residual":
        needed += config.words * config.width
    if needed > stored:
        raise ValueError(f"its network has more than {stored} weights")


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
