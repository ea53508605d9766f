"""Choosing the models of an index: what a preset names, what an index holds, what must agree."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..core.errors import ModelError
from ..models.clip import load_encoder
from ..models.detector import Detector, DetectorSettings
from ..models.encoder import Encoder, Fingerprint
from ..models.presets import BUNDLED, DEFAULT_PRESET, get_preset
from ..models.yolo import load_detector
from ..storage.catalog import Catalog

__all__ = [
    "check_models",
    "checked_loader",
    "describe_models",
    "encoder_of",
    "existing_models",
    "load_models",
    "new_models",
]


Models = tuple[str | Detector, str | Encoder, DetectorSettings]


def new_models(
    preset: str | None,
    detector: str | Detector | None,
    clip: str | Encoder | None,
    settings: DetectorSettings | None,
) -> Models:
    """Return what to load for a new index, or for none: the preset's unless one is named."""
    chosen = get_preset(preset or DEFAULT_PRESET)
    return (
        _absolute(chosen.detector if detector is None else detector),
        _absolute(chosen.clip if clip is None else clip),
        settings or DetectorSettings(),
    )


def existing_models(
    catalog: Catalog,
    preset: str | None,
    detector: str | Detector | None,
    clip: str | Encoder | None,
    settings: DetectorSettings | None,
) -> Models:
    """Take from the index what was not asked for; what was asked for is checked when loaded."""
    asked = get_preset(preset) if preset else None
    finder = detector or (asked and asked.detector) or catalog.setting("detector")
    encoder = clip or (asked and asked.clip) or catalog.setting("clip")
    if finder is None or encoder is None:
        raise ModelError(
            f"{catalog.directory} was built with model objects; pass the same ones to build"
        )
    kept = catalog.parse_setting("detector_settings", lambda value: DetectorSettings(**value))
    if settings is not None and settings != kept:
        raise ModelError(
            f"{catalog.directory} was built with {kept}, not with {settings}; "
            "leave the settings out to use its own, or build a new index"
        )
    return _absolute(finder), _absolute(encoder), kept


def _absolute(model: Any) -> Any:
    """Make the path of local weights absolute, so that the index can be opened from anywhere."""
    if isinstance(model, str) and model != BUNDLED and Path(model).exists():
        return os.path.abspath(model)  # noqa: PTH100
    return model


def load_models(
    detector: str | Detector, clip: str | Encoder, settings: DetectorSettings, device: str
) -> tuple[Detector, Encoder]:
    """Load what is named; objects are passed through."""
    return (
        load_detector(detector, settings, device) if isinstance(detector, str) else detector,
        load_encoder(clip, device) if isinstance(clip, str) else clip,
    )


def checked_loader(
    catalog: Catalog, wanted: Models, device: str
) -> Callable[[], tuple[Detector, Encoder]]:
    """Return a function that loads models, and refuses them if they did not build the index."""

    def load() -> tuple[Detector, Encoder]:
        models = load_models(*wanted, device)
        check_models(catalog, *models)
        return models

    return load


def describe_models(
    preset: str | None,
    detector: str | Detector,
    clip: str | Encoder,
    settings: DetectorSettings,
    loaded_detector: Detector,
    loaded_encoder: Encoder,
) -> dict[str, Any]:
    """Return the settings that an index remembers of its models."""
    from ..core.version import __version__

    return {
        "preset": preset or DEFAULT_PRESET,
        "detector": detector if isinstance(detector, str) else None,
        "clip": clip if isinstance(clip, str) else None,
        "detector_settings": asdict(settings),
        "detector_fingerprint": loaded_detector.fingerprint,
        "encoder_fingerprint": asdict(loaded_encoder.fingerprint),
        "dimension": loaded_encoder.dimension,
        "created_with": __version__,
    }


def encoder_of(catalog: Catalog) -> Fingerprint:
    """Return the fingerprint of the encoder that built an index."""
    return catalog.parse_setting(
        "encoder_fingerprint",
        lambda value: Fingerprint(**{name: str(part) for name, part in value.items()}),
    )


def check_encoder(catalog: Catalog, encoder: Encoder) -> None:
    """Raise :class:`ModelError` if `encoder` is not the one that built the index."""
    built_with = encoder_of(catalog)
    if not encoder.fingerprint.matches(built_with):
        raise ModelError(
            f"{catalog.directory} was built with the encoder {built_with}, and this is "
            f"{encoder.fingerprint}: their embeddings cannot be compared; "
            "use the weights that built it, or build a new index"
        )


def check_models(catalog: Catalog, detector: Detector, encoder: Encoder) -> None:
    """Raise :class:`ModelError` if the models are not those that built the index."""
    check_encoder(catalog, encoder)
    if detector.fingerprint != catalog.setting("detector_fingerprint"):
        raise ModelError(
            f"{catalog.directory} was built with the detector "
            f"{catalog.setting('detector_fingerprint')!r}, not with {detector.fingerprint!r}; "
            "leave detector and settings out to use its own, or build a new index"
        )
