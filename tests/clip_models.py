"""Tiny CLIP models with random weights, in the folders that open_clip loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from fakes import COLORS, draw_squares

TOWERS: dict[str, dict[str, Any]] = {
    "vit": {"image_size": 32, "layers": 4, "width": 32, "patch_size": 8, "head_width": 16},
    "resnet": {"image_size": 64, "layers": [1, 1, 2, 1], "width": 16, "head_width": 16},
    "timm": {
        "image_size": 64, "timm_model_name": "convnext_atto", "timm_model_pretrained": False,
        "timm_pool": "", "timm_proj": "linear",
    },
}  # fmt: skip
_TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}


def write_clip(folder: Path, kind: str) -> Path:
    """Write a model of a kind in `TOWERS`; its text tower and tokenizer are open_clip's own."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir()
    config = {
        "model_cfg": {"embed_dim": 32, "vision_cfg": TOWERS[kind], "text_cfg": _TEXT},
        "preprocess_cfg": {
            "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bicubic",
            "resize_mode": "squash",
        },
    }  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors", {"format": "pt"})
    return folder


def draw_scenes(folder: Path, count: int) -> Path:
    """Draw pictures of two squares of different colors; return a file of phrases about them."""
    folder.mkdir()
    names, lines = list(COLORS), []
    for number in range(count):
        first, second = number % 4, (number + 1 + number // 4 % 3) % 4
        side = 20 + number % 7
        boxes = {
            names[first]: (4, 6, 4 + side, 6 + side),
            names[second]: (44, 10, 44 + side, 10 + side),
        }
        draw_squares(folder / f"{number}.png", boxes)
        lines += [
            {"image": f"{number}.png", "expression": f"the {name} square", "bbox_xyxy": box}
            for name, box in boxes.items()
        ]
    refs = folder.parent / f"{folder.name}.jsonl"
    refs.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return refs
