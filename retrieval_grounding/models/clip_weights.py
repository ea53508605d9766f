"""Finding and loading the weights of an open_clip model."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from ..core.errors import ModelError
from ..core.fork import ForkSafeLock
from ..core.threads import single_thread
from ._quiet import keep_generator, quiet_libraries
from .presets import BUNDLED, bundled_path

__all__ = [
    "WEIGHTS_FILE",
    "hash_stored_weights",
    "hash_weights",
    "is_published_encoder",
    "load_open_clip",
]

WEIGHTS_FILE = "open_clip_model.safetensors"
"""Name of the weights in a folder of open_clip."""

_CUSTOM_CODE_KEYS = ("trust_remote_code", "auto_map", "custom_pipelines")
_loading = ForkSafeLock()


def is_published_encoder(spec: str) -> bool:
    """Return whether `spec` names bundled weights or weights in open_clip's own list.

    A published name that is also a folder here is that folder.
    """
    if spec == BUNDLED:
        return True
    name, _, tag = spec.partition(":")
    if not tag or os.path.lexists(spec):
        return False
    with quiet_libraries():
        import open_clip
    return tag in open_clip.list_pretrained_tags_by_model(name)


def load_open_clip(spec: str) -> tuple[Any, Any]:
    """Return an open_clip model, on the CPU and in float32, and its tokenizer.

    Raises
    ------
    ModelError
        If the name is unknown, the weights are missing, unreachable or of a different model, or
        loading them would run code that they bring along.
    """
    folder = bundled_path("clip") if spec == BUNDLED else Path(spec)
    with quiet_libraries():
        import open_clip
    try:
        with quiet_libraries(), _no_custom_code(spec):
            if folder.is_dir():
                name, options = f"local-dir:{folder}", _local_options(folder)
            elif spec.startswith("hf-hub:"):
                name, options = spec, {}
                _refuse_custom_code(spec, open_clip.get_model_config(spec))
            else:
                name, options = _published_options(spec, open_clip)
            with keep_generator():
                model = open_clip.create_model(name, require_pretrained=True, **options)
            return model, open_clip.get_tokenizer(name)
    except ModelError:
        raise
    except Exception as error:  # the hub client, torch and safetensors each raise their own
        raise ModelError(_explain(spec, error)) from error


def _local_options(folder: Path) -> dict[str, Any]:
    """Return options for a folder, whose config may name itself as a relative ``hf_model_name``."""
    config_file = folder / "open_clip_config.json"
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        text_config = config["model_cfg"]["text_cfg"]
        others = [
            json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*config*.json")
        ]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(
            f"{str(folder)!r} is not an open_clip model: "
            f"{config_file.name} is missing or unreadable"
        ) from error
    _refuse_custom_code(str(folder), [config, *others])
    if str(text_config.get("hf_model_name", "")).startswith("."):
        return {"text_cfg": text_config | {"hf_model_name": str(folder)}}
    return {}


def _refuse_custom_code(spec: str, config: Any) -> None:
    """Raise :class:`ModelError` if a config asks, at any depth, for code of the model to be run."""
    pending = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if any(value.get(key) for key in _CUSTOM_CODE_KEYS):
                raise ModelError(_custom_code(spec))
            pending += value.values()
        elif isinstance(value, list):
            pending += value


@contextlib.contextmanager
def _no_custom_code(spec: str) -> Iterator[None]:
    """Make transformers refuse, and not ask on the terminal, to import code of a model.

    Configs are searched before, but they can name further ones, which transformers fetches.
    """

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise ModelError(_custom_code(spec))

    modules: Any = importlib.import_module("transformers.dynamic_module_utils")
    with _loading:
        before = modules.get_class_in_module, modules.TIME_OUT_REMOTE_CODE
        modules.get_class_in_module, modules.TIME_OUT_REMOTE_CODE = refuse, 0
        try:
            yield
        finally:
            modules.get_class_in_module, modules.TIME_OUT_REMOTE_CODE = before


def _custom_code(spec: str) -> str:
    return (
        f"the CLIP model {spec} brings Python code of its own, which is never run; "
        "use a model that open_clip and transformers can load without trust_remote_code"
    )


def _published_options(spec: str, open_clip: Any) -> tuple[str, dict[str, Any]]:
    name, _, pretrained = spec.partition(":")
    if name not in open_clip.list_models():
        near = difflib.get_close_matches(name, open_clip.list_models(), n=3, cutoff=0.4)
        raise ModelError(
            f"open_clip has no model {name!r} (near: {', '.join(near) or 'none'}); "
            "name one as MODEL:PRETRAINED, or use nano"
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained in tags or (pretrained and Path(pretrained).is_file()):
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


def hash_weights(weights: Iterable[tuple[str, Any]]) -> str:
    """Return a hash of all parameters and buffers of a model, 16 hexadecimal digits.

    Parameters
    ----------
    weights : iterable of (str, tensor)
        The items of the model's ``state_dict()``, sorted by name.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in weights:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.contiguous().cpu().flatten().numpy())
    return digest.hexdigest()


def hash_stored_weights(stored: Mapping[str, Any]) -> str:
    """Return what :func:`hash_weights` returns for the model that is made of stored weights.

    Parameters
    ----------
    stored : mapping of str to tensor
        All weights of both towers; models have them in float32.
    """
    with single_thread():  # small tensors: threads would wait for each other most of the time
        return hash_weights(
            (name, value.float() if value.is_floating_point() else value)
            for name, value in sorted(stored.items())
        )
