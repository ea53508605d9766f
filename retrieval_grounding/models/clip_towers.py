"""The two towers of a CLIP model, by the name of its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import ModelError
from .bert_folder import BertFolder, read_bert_folder
from .clip_weights import hash_weights, load_open_clip
from .presets import BUNDLED, bundled_path
from .text_tower import OpenClipText, TextTower
from .timm_folder import read_timm_tower

__all__ = ["ClipTowers", "load_towers"]


@dataclass(frozen=True)
class ClipTowers:
    """A dual encoder whose image tower may not have been loaded yet.

    Parameters
    ----------
    weights : str
        Hash of all weights of both towers.
    preprocessing : dict
        ``size``, ``mean``, ``std`` and ``interpolation`` of the image tower's input.
    text : TextTower
        On its device.
    load_image_tower : callable
        Returns the network, in evaluation mode.
    """

    weights: str
    preprocessing: dict[str, Any]
    text: TextTower
    load_image_tower: Callable[[], Any]


def load_towers(spec: str, device: str) -> ClipTowers:
    """Load a dual encoder: by this library alone if it can, otherwise by open_clip.

    Importing open_clip, and with it transformers and torchvision, takes longer than answering a
    query, which needs only the text tower.

    Raises
    ------
    ModelError
        See :func:`.clip_weights.load_open_clip`.
    """
    folder = bundled_path("clip") if spec == BUNDLED else Path(spec)
    found = read_bert_folder(folder) if folder.is_dir() else None
    return _from_folder(spec, folder, found, device) if found else _from_open_clip(spec, device)


def _from_open_clip(spec: str, device: str) -> ClipTowers:
    model, tokenizer = load_open_clip(spec)
    weights = hash_weights(sorted(model.state_dict().items()))
    model = model.eval().to(device)
    text = OpenClipText(model, tokenizer, device)
    return ClipTowers(weights, model.visual.preprocess_cfg, text, lambda: model.visual)


def _from_folder(spec: str, folder: Path, found: BertFolder, device: str) -> ClipTowers:
    from .bert_text import BertText

    def load_image_tower() -> Any:
        read = read_timm_tower(folder)
        if read is None:
            model, _ = load_open_clip(spec)
            read = model.visual.eval(), hash_weights(sorted(model.state_dict().items()))
        tower, weights = read
        if weights != found.hash:
            raise ModelError(
                f"the weights of the CLIP model {spec} have changed since they were loaded; "
                "start again"
            )
        return tower

    text = BertText(found.shape, found.text_weights, found.tokenizer, device)
    return ClipTowers(found.hash, found.preprocessing, text, load_image_tower)
