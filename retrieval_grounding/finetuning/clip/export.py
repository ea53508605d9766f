"""Writing a CLIP model as a folder that open_clip loads, with a model card."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.errors import ModelError
from ...models._quiet import quiet_libraries
from ...models.clip_weights import WEIGHTS_FILE, hash_weights, load_open_clip
from ...models.presets import BUNDLED, bundled_path
from ...storage.files import sync_folder
from .shares import is_half
from .towers import ClipTowers

__all__ = ["check_folder", "write_folder"]

_CONFIG = "open_clip_config.json"
_COPIED = (".json", ".txt", ".model")
_PHRASES = ("a red bus", "two men in suits")
_SAME = 0.999


def write_folder(
    folder: Path, spec: str, model: Any, tokenizer: Any, weights: Mapping[str, Tensor], card: str
) -> None:
    """Write config, weights, tokenizer and model card to a new folder, and flush it to disk.

    Parameters
    ----------
    folder : Path
        Replaced if it exists.
    spec : str
        The model that `weights` are of, as ``--clip`` takes it.
    model, tokenizer
        open_clip's, of that model.
    weights : mapping of str to tensor
        In half precision if they fit.
    card : str
        Text of README.md.
    """
    from safetensors.torch import save_file

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    source = bundled_path("clip") if spec == BUNDLED else Path(spec)
    if source.is_dir():
        for path in source.iterdir():
            if path.suffix in _COPIED and path.name != "report.json" and path.is_file():
                shutil.copyfile(path, folder / path.name)
    else:
        config = {"model_cfg": _model_config(spec), "preprocess_cfg": _preprocessing(model)}
        text = json.dumps(config, indent=2) + "\n"
        (folder / _CONFIG).write_text(text, encoding="utf-8")
        if hasattr(tokenizer, "save_pretrained"):
            tokenizer.save_pretrained(folder)
    half = is_half(weights)
    tensors = {
        name: (value.half() if half and value.is_floating_point() else value).contiguous().clone()
        for name, value in weights.items()
    }
    save_file(tensors, folder / WEIGHTS_FILE, {"format": "pt"})
    (folder / WEIGHTS_FILE).chmod(0o644)
    (folder / "README.md").write_text(card, encoding="utf-8")
    for path in folder.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    sync_folder(folder)


def check_folder(folder: Path, towers: ClipTowers, weights: str) -> None:
    """Load a folder as a user would, and compare it with the model that was written.

    Raises
    ------
    ModelError
        If its weights have another hash than `weights`, or it embeds phrases differently.
    """
    model, tokenizer = load_open_clip(str(folder))
    with torch.inference_mode():
        tokens = tokenizer(list(_PHRASES))
        again = model.eval().encode_text(tokens, normalize=True).float().numpy()
    same = (again * towers.embed_phrases(_PHRASES)).sum(1)
    found = hash_weights(sorted(model.state_dict().items()))
    if found != weights or not np.all(same > _SAME):
        raise ModelError(
            "the fine-tuned model cannot be written as an open_clip folder, because its "
            "architecture is not in open_clip's configuration of it; start from a folder with "
            "open_clip_config.json"
        )


def _model_config(spec: str) -> dict[str, Any]:
    with quiet_libraries():
        import open_clip

        config: dict[str, Any] | None = open_clip.get_model_config(
            spec if spec.startswith("hf-hub:") else spec.partition(":")[0]
        )
    if config is None:
        raise ModelError(f"open_clip has no configuration of {spec}; start from a folder")
    return dict(config)


def _preprocessing(model: Any) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in model.visual.preprocess_cfg.items()
    }
