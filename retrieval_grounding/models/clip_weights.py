"""Finding and loading the weights of an open_clip model."""

from __future__ import annotations

import difflib
import hashlib
import json
from pathlib import Path
from typing import Any

from ..core.errors import ModelError
from ._quiet import quiet_libraries
from .presets import BUNDLED, bundled_path

__all__ = ["hash_weights", "load_open_clip"]


def load_open_clip(spec: str) -> tuple[Any, Any]:
    """Return an open_clip model, on the CPU and in float32, and its tokenizer.

    Raises
    ------
    ModelError
        If the name is unknown, or the weights are missing, unreachable or of a different model.
    """
    folder = bundled_path("clip") if spec == BUNDLED else Path(spec)
    with quiet_libraries():
        import open_clip
    if folder.is_dir():
        name, options = f"local-dir:{folder}", _local_options(folder)
    elif spec.startswith("hf-hub:"):
        name, options = spec, {}
    else:
        name, options = _published_options(spec, open_clip)
    try:
        with quiet_libraries():
            model = open_clip.create_model(name, require_pretrained=True, **options)
            return model, open_clip.get_tokenizer(name)
    except Exception as error:  # the hub client, torch and safetensors each raise their own
        raise ModelError(_explain(spec, error)) from error


def _local_options(folder: Path) -> dict[str, Any]:
    """Return options for a folder, whose config may name itself as a relative ``hf_model_name``."""
    config_file = folder / "open_clip_config.json"
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        text_config = config["model_cfg"]["text_cfg"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{str(folder)!r} is not an open_clip model: "
            f"{config_file.name} is missing or unreadable"
        ) from error
    if str(text_config.get("hf_model_name", "")).startswith("."):
        return {"text_cfg": text_config | {"hf_model_name": str(folder)}}
    return {}


def _published_options(spec: str, open_clip: Any) -> tuple[str, dict[str, Any]]:
    name, _, pretrained = spec.partition(":")
    if name not in open_clip.list_models():
        near = difflib.get_close_matches(name, open_clip.list_models(), n=3, cutoff=0.4)
        raise ModelError(
            f"open_clip has no model {name!r} (near: {', '.join(near) or 'none'}); "
            "name one as MODEL:PRETRAINED, or use nano"
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained in tags:
        return name, {"pretrained": pretrained}
    if pretrained and Path(pretrained).is_file():
        return name, {"pretrained": pretrained}
    raise ModelError(
        f"{spec!r} does not name weights of {name}: add one of "
        f"{', '.join(f'{name}:{tag}' for tag in tags) or 'its published tags (it has none)'}, "
        f"or {name}:FILE with a local checkpoint"
    )


def _explain(spec: str, error: Exception) -> str:
    text = str(error)
    if isinstance(error, (ImportError, ModuleNotFoundError)):
        return f"the CLIP model {spec} needs a package that is not installed: {text}"
    fetching = ("download", "connect", "hub", "resolve", "offline", "huggingface")
    if any(word in text.lower() for word in fetching):
        return (
            f"the CLIP model {spec} could not be downloaded (is the model hub reachable?); use "
            "the bundled one with --clip nano, or a local checkpoint with --clip MODEL:FILE"
        )
    first_line = text.splitlines()[0] if text else type(error).__name__
    return f"the CLIP model {spec} could not be loaded: {first_line[:200]}"


def hash_weights(model: Any) -> str:
    """Return a hash of all parameters and buffers of a model, 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()
