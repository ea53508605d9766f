"""Presets: named pairs of a detector and a CLIP model. A preset only names weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..core.errors import ModelError

__all__ = ["BUNDLED", "DEFAULT_PRESET", "PRESETS", "Preset", "bundled_path", "get_preset"]


BUNDLED = "nano"
"""Name of the bundled weights, both of the detector and of the encoder."""

DEFAULT_PRESET = "nano"

_BUNDLED = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Preset:
    """A named pair of weights.

    Parameters
    ----------
    name : str
        What ``--preset`` takes.
    detector : str
        What ``--detector`` takes; see :func:`retrieval_grounding.load_detector`.
    clip : str
        What ``--clip`` takes; see :func:`retrieval_grounding.load_encoder`.
    summary : str
        One line for ``retrieval-grounding models``.
    """

    name: str
    detector: str
    clip: str
    summary: str


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("nano", BUNDLED, BUNDLED, "bundled with the package, works offline, made for CPUs"),
        Preset(
            "base",
            "yolo11s.pt",
            "ViT-B-16-SigLIP2-256:webli",
            "SigLIP 2 B/16 at 256 px and YOLO11s; downloads about 1.5 GB",
        ),
        Preset(
            "large",
            "yolo11x.pt",
            "ViT-SO400M-16-SigLIP2-384:webli",
            "SigLIP 2 SO400M at 384 px and YOLO11x, for large GPUs; downloads about 4.7 GB",
        ),
        Preset(
            "seed",
            "yolov5su.pt",
            "ViT-B-32-quickgelu:openai",
            "OpenAI's CLIP ViT-B/32 and YOLOv5s, as in the course project; downloads about 0.6 GB",
        ),
    )
}

_BUNDLED_FILES = {
    "detector": _BUNDLED / "nano-detector.pt",
    "clip": _BUNDLED / "nano-clip",
    "names": _BUNDLED / "nano-names.json",
    "matcher": _BUNDLED / "nano-matcher.safetensors",
    "any-matcher": _BUNDLED / "any-matcher.safetensors",
}


def get_preset(name: str) -> Preset:
    """Return the preset called `name`.

    Raises
    ------
    ModelError
        If there is no such preset; the message lists the names.
    """
    if name not in PRESETS:
        raise ModelError(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def bundled_path(kind: str) -> Path:
    """Return the path of a bundled file.

    Parameters
    ----------
    kind : str
        ``"detector"``, ``"clip"``, ``"names"``, ``"matcher"`` (nano's) or ``"any-matcher"``.
    """
    path = _BUNDLED_FILES[kind]
    if not path.exists():
        raise ModelError(
            f"the bundled weights {path.name} are missing from the installation; "
            "install retrieval_grounding again"
        )
    return path
