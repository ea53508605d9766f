"""The models of an index: what a preset names, what an index records, and what must agree."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..core.errors import ModelError
from ..core.regions import Regions
from ..core.version import __version__
from ..models.checks import encode_regions
from ..models.clip import load_encoder
from ..models.clip_weights import is_published_encoder
from ..models.detector import Detector, DetectorSettings, same_detector
from ..models.encoder import Encoder, Fingerprint
from ..models.naming import Namer, find_namer
from ..models.presets import BUNDLED, DEFAULT_PRESET, get_preset
from ..models.yolo import load_detector
from ..storage.catalog import Catalog
from .consent import check_consent, remember_consent

__all__ = [
    "LoadModels",
    "ModelSpec",
    "Models",
    "absolute_model",
    "check_encoder",
    "check_named",
    "checked_loader",
    "consent_to",
    "encoder_fingerprint",
    "load_index_encoder",
    "new_spec",
    "recorded_settings",
    "recorded_spec",
    "spec_settings",
]

T = TypeVar("T")


class Models(NamedTuple):
    """A loaded detector and encoder, and what names regions if the detector itself does not."""

    detector: Detector
    encoder: Encoder
    namer: Namer | None = None

    def encode(
        self, images: Sequence[Image.Image], regions: Sequence[Regions]
    ) -> list[tuple[Regions, npt.NDArray[np.float32]]]:
        """Return the regions of each image, named, with their embeddings (n, d)."""
        embeddings = encode_regions(self.encoder, images, regions)
        ends = np.cumsum([len(found) for found in regions])
        parts = np.split(embeddings, ends[:-1])
        name = self.namer or (lambda found, _: found)
        return [(name(found, part), part) for found, part in zip(regions, parts, strict=True)]


LoadModels = Callable[[], Models]


class ModelSpec(NamedTuple):
    """A detector and an encoder, by name or as objects, and the detector's settings."""

    detector: str | Detector
    encoder: str | Encoder
    settings: DetectorSettings

    def load(self, device: str) -> Models:
        """Load what is named; objects are passed through."""
        detector, encoder, settings = self
        if isinstance(detector, str):
            detector = load_detector(detector, settings, device)
        if isinstance(encoder, str):
            named = load_encoder(encoder, device)
            named.load_image_tower()  # a failure is reported before any image is read
            encoder = named
        return Models(detector, encoder, find_namer(detector, encoder))


def new_spec(
    preset: str | None,
    detector: str | Detector | None,
    encoder: str | Encoder | None,
    settings: DetectorSettings | None,
) -> ModelSpec:
    """Return the models for a new index, or for none: the preset's unless others are given."""
    chosen = get_preset(preset or DEFAULT_PRESET)
    return ModelSpec(
        absolute_model(chosen.detector if detector is None else detector),
        absolute_model(chosen.clip if encoder is None else encoder),
        settings or DetectorSettings(),
    )


def recorded_spec(
    catalog: Catalog,
    preset: str | None = None,
    detector: str | Detector | None = None,
    encoder: str | Encoder | None = None,
    settings: DetectorSettings | None = None,
) -> ModelSpec:
    """Return the models of an index, with those that are given in place of the recorded ones.

    Giving a name is consent to load it. Whether given models are those that built the index is
    checked when they are loaded.

    Raises
    ------
    ModelError
        If the index was built with objects that are not given, or with other settings.
    """
    if preset:
        chosen = get_preset(preset)
        detector, encoder = detector or chosen.detector, encoder or chosen.clip
    consent_to(catalog.directory, detector, encoder)
    detector = detector or catalog.setting("detector")
    encoder = encoder or catalog.setting("clip")
    if detector is None or encoder is None:
        raise ModelError(
            f"{catalog.directory} was built with model objects; pass the same ones to build"
        )
    recorded = recorded_settings(catalog)
    if settings is not None and _predates_groups(catalog):
        settings = replace(settings, groups=False)
    if settings is not None and settings != recorded:
        raise ModelError(
            f"{catalog.directory} was built with {recorded}, not with {settings}; "
            "leave the settings out to use its own, or build a new index"
        )
    return ModelSpec(absolute_model(detector), absolute_model(encoder), recorded)


def recorded_settings(catalog: Catalog) -> DetectorSettings:
    """Return the detector's settings of an index; one from before there were groups has none."""
    return catalog.parse_setting(
        "detector_settings", lambda value: DetectorSettings(**({"groups": False} | value))
    )


def _predates_groups(catalog: Catalog) -> bool:
    return "groups" not in catalog.parse_setting("detector_settings", dict)


def checked_loader(catalog: Catalog, spec: ModelSpec, device: str) -> LoadModels:
    """Return a function that loads `spec` and refuses models that did not build the index."""

    def load() -> Models:
        if isinstance(spec.encoder, str):
            check_consent(catalog.directory, "clip", spec.encoder)
        if isinstance(spec.detector, str):
            check_consent(catalog.directory, "detector", spec.detector)
        models = spec.load(device)
        check_encoder(catalog, models.encoder)
        built_with = catalog.setting("detector_fingerprint")
        if not same_detector(models.detector.fingerprint, str(built_with)):
            raise ModelError(
                f"{catalog.directory} was built with the detector {built_with!r}, not with "
                f"{models.detector.fingerprint!r}; leave detector and settings out to use its "
                "own, or build a new index"
            )
        return models

    return load


def check_named(catalog: Catalog, spec: ModelSpec, load: LoadModels) -> None:
    """Refuse models that are given but did not build the index, even if nothing is to be embedded.

    Models that the index names itself are not loaded for that.
    """
    recorded = (catalog.setting("detector"), catalog.setting("clip"))
    if (spec.detector, spec.encoder) != recorded:
        load()


def check_encoder(catalog: Catalog, encoder: Encoder) -> None:
    """Raise :class:`ModelError` if `encoder` did not build the index."""
    built_with = encoder_fingerprint(catalog)
    if not encoder.fingerprint.matches(built_with):
        raise ModelError(
            f"{catalog.directory} was built with the encoder {built_with}, and this is "
            f"{encoder.fingerprint}: their embeddings cannot be compared; "
            "use the weights that built it, or build a new index"
        )


def encoder_fingerprint(catalog: Catalog) -> Fingerprint:
    """Return the fingerprint of the encoder that built an index."""
    return catalog.parse_setting(
        "encoder_fingerprint",
        lambda value: Fingerprint(**{name: str(part) for name, part in value.items()}),
    )


def load_index_encoder(catalog: Catalog, given: str | None, device: str) -> Encoder:
    """Load the encoder that the user has named for an index, or else the one that it names.

    Raises
    ------
    ModelError
        If the index was built with an object, its name needs the user's consent, or the weights
        are missing or are not those that built the index.
    """
    name = catalog.setting("clip") if given is None else absolute_model(given)
    if not isinstance(name, str):
        raise ModelError(
            f"{catalog.directory} was built with an encoder object; "
            "pass the same one: Index.open(..., encoder=...)"
        )
    if given is None:
        check_consent(catalog.directory, "clip", name)
    encoder = load_encoder(name, device)
    check_encoder(catalog, encoder)
    if given is not None:
        consent_to(catalog.directory, None, name)
    return encoder


def consent_to(
    directory: Path, detector: str | Detector | None, encoder: str | Encoder | None
) -> None:
    """Remember which weights the user has named for an index; objects and None need nothing."""
    detector, encoder = absolute_model(detector), absolute_model(encoder)
    if isinstance(detector, str):
        remember_consent(directory, "detector", detector)
    if isinstance(encoder, str):
        remember_consent(directory, "clip", encoder)


def spec_settings(preset: str | None, spec: ModelSpec, models: Models) -> dict[str, Any]:
    """Return what a new index records of its models, by setting of the catalog."""
    return {
        "preset": _preset_of(preset, spec),
        "detector": spec.detector if isinstance(spec.detector, str) else None,
        "clip": spec.encoder if isinstance(spec.encoder, str) else None,
        "detector_settings": asdict(spec.settings),
        "detector_fingerprint": models.detector.fingerprint,
        "encoder_fingerprint": asdict(models.encoder.fingerprint),
        "dimension": models.encoder.dimension,
        "created_with": __version__,
    }


def _preset_of(preset: str | None, spec: ModelSpec) -> str | None:
    """Return the preset whose models these are, or None if they are a choice of the user's own."""
    chosen = get_preset(preset or DEFAULT_PRESET)
    return chosen.name if (spec.detector, spec.encoder) == (chosen.detector, chosen.clip) else None


def absolute_model(model: T) -> T:
    """Make the path of local weights absolute, so that the index can be opened from any folder."""
    if isinstance(model, os.PathLike):
        return cast(T, os.path.abspath(model))  # noqa: PTH100
    if not isinstance(model, str) or model == BUNDLED:
        return model
    architecture, _, file = model.partition(":")
    absolute: str = model
    if Path(model).exists():
        absolute = os.path.abspath(model)  # noqa: PTH100 - links must not be resolved
    elif file and Path(file).is_file() and not is_published_encoder(model):
        absolute = f"{architecture}:{os.path.abspath(file)}"  # noqa: PTH100
    return cast(T, absolute)
