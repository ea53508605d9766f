"""Recording where the weights of an index are now."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import ModelError
from ..models.detector import Detector
from ..models.encoder import Encoder
from .model_spec import checked_loader, recorded_spec
from .write_session import write_session

__all__ = ["relocate_models"]


def relocate_models(
    directory: Path, detector: str | None, encoder: str | None, device: str, timeout: float = 0.0
) -> dict[str, str]:
    """Record new names of the models that built an index, once they have proved to be the same.

    Returns
    -------
    dict
        What the index now records, by setting: ``detector`` and ``clip``.

    Raises
    ------
    ModelError
        If no name is given, or the weights are not those that built the index.
    """
    if detector is None and encoder is None:
        raise ModelError("say where the weights are now: --clip NAME, --detector NAME, or both")
    with write_session(directory, timeout, passes=False) as catalog:
        spec = recorded_spec(catalog, detector=detector, encoder=encoder)
        checked_loader(catalog, spec, device)()
        names: dict[str, str | Detector | Encoder] = {
            "detector": spec.detector,
            "clip": spec.encoder,
        }
        recorded = {key: name for key, name in names.items() if isinstance(name, str)}
        for key, name in recorded.items():
            catalog.set_setting(key, name)
    return recorded
