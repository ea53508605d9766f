"""The image tower's published weights, and the folder that open_clip loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from torch import nn

from retrieval_grounding.models.fuse_bn import fuse_batch_norm

from .text_tower import CONTEXT

IMAGE_TOWER = "tf_efficientnet_lite0"
TRAINING_SIZE = 192
INPUT_SIZE = 224
"""Larger than in training: objects of test images look larger then (Touvron et al., Fixing the
train-test resolution discrepancy, 2019)."""
DIMENSION = 256


def image_tower(weights: Path) -> tuple[nn.Module, nn.Linear]:
    """Return EfficientNet-Lite0 as ImageNet left it, BatchNorm folded away, and its classifier."""
    published = torch.load(weights, map_location="cpu", weights_only=True)
    tower = timm.create_model(IMAGE_TOWER)
    names = list(tower.state_dict())
    tower.load_state_dict(dict(zip(names, published.values(), strict=True)))
    classifier = tower.classifier
    tower.reset_classifier(0)
    example = torch.rand(1, 3, TRAINING_SIZE, TRAINING_SIZE)
    return fuse_batch_norm(tower.eval(), example), classifier


def write_folder(
    folder: Path, tower: nn.Module, parts: dict[str, dict[str, torch.Tensor]], vocabulary: int
) -> None:
    """Write ``open_clip_config.json`` and weights in half precision.

    Parameters
    ----------
    folder : Path
        Exists, with the tokenizer in it.
    tower : nn.Module
        Image tower without classifier, BatchNorm folded.
    parts : dict
        Tensors of everything else, by the prefix that open_clip puts before their names.
    vocabulary : int
        Number of word pieces.
    """
    unfolded = timm.create_model(IMAGE_TOWER, num_classes=0)
    _unfold(tower, unfolded)
    tensors = {
        f"{prefix}{name}": (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for prefix, part in ({"visual.trunk.": unfolded.state_dict()} | parts).items()
        for name, value in part.items()
        if name != "embeddings.position_ids"
    }
    partial = folder / "open_clip_model.part"
    save_file(tensors, partial, {"format": "pt"})
    partial.chmod(0o644)
    partial.replace(folder / "open_clip_model.safetensors")
    settings = json.dumps(_configuration(vocabulary), indent=2)
    (folder / "open_clip_config.json").write_text(f"{settings}\n", encoding="utf-8")


def _unfold(folded: nn.Module, tower: nn.Module) -> None:
    """Copy convolutions that carry a bias into a tower with a BatchNorm after each."""
    sources = [module for module in folded.modules() if isinstance(module, nn.Conv2d)]
    targets = [module for module in tower.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in tower.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for source, target, norm in zip(sources, targets, norms, strict=True):
            target.weight.copy_(source.weight)
            norm.weight.fill_((1 + norm.eps) ** 0.5)
            norm.bias.copy_(source.bias)


def _configuration(vocabulary: int) -> dict[str, Any]:
    """Return open_clip's description; ``.`` as a name means the folder itself."""
    image = {
        "image_size": INPUT_SIZE,
        "timm_model_name": IMAGE_TOWER,
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
    }
    text = {
        "context_length": CONTEXT,
        "vocab_size": vocabulary,
        "hf_model_name": ".",
        "hf_tokenizer_name": ".",
        "hf_model_pretrained": False,
        "hf_proj_type": "mlp",
        "hf_pooler_type": "mean_pooler",
    }
    preprocess = {
        "size": [INPUT_SIZE, INPUT_SIZE],
        "mode": "RGB",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    model = {"embed_dim": DIMENSION, "vision_cfg": image, "text_cfg": text}
    return {"model_cfg": model, "preprocess_cfg": preprocess}
