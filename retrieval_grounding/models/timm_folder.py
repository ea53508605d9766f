"""Folders of open_clip whose image tower is a network of timm: read without open_clip.

Importing open_clip, and with it transformers, takes some seconds of each build. The bundled encoder
is such a folder. Whatever differs from what is known here is left to open_clip.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

from ._quiet import keep_generator, quiet_libraries
from .clip_weights import WEIGHTS_FILE, hash_stored_weights

__all__ = ["read_timm_tower"]

_KNOWN = {"timm_pool": "avg", "timm_proj": "linear", "timm_model_pretrained": False}
_OTHER_KEYS = {"image_size", "timm_model_name"}
_PREFIX = "visual."


def read_timm_tower(folder: Path) -> tuple[Any, str] | None:
    """Return the image tower of a folder, and the hash of all weights in it.

    Returns
    -------
    (nn.Module, str) or None
        The tower in evaluation mode, on the CPU and in float32; None if the folder has to be left
        to open_clip, which also says what is wrong with it.
    """
    try:
        return _read(folder)
    except Exception:  # timm asserts much, and takes whatever a configuration has for a name
        return None


def _read(folder: Path) -> tuple[Any, str] | None:
    from safetensors.torch import load_file
    from torch import nn

    config = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
    image = config["model_cfg"]["vision_cfg"]
    if image.keys() != _KNOWN.keys() | _OTHER_KEYS or {key: image[key] for key in _KNOWN} != _KNOWN:
        return None
    with quiet_libraries():
        import timm
    if not timm.is_model(image["timm_model_name"]):  # other names are downloaded
        return None
    stored = load_file(folder / WEIGHTS_FILE)
    with quiet_libraries(), keep_generator():
        trunk: Any = timm.create_model(image["timm_model_name"], pretrained=False)
        trunk.reset_classifier(0, global_pool=_KNOWN["timm_pool"])
        projection = nn.Linear(trunk.num_features, config["model_cfg"]["embed_dim"], bias=False)
    # With the names that open_clip gives them.
    head = nn.Sequential(OrderedDict(proj=projection))
    tower = nn.Sequential(OrderedDict(trunk=trunk, head=head))
    tower.load_state_dict(
        {
            name.removeprefix(_PREFIX): value
            for name, value in stored.items()
            if name.startswith(_PREFIX)
        }
    )
    return tower.eval(), hash_stored_weights(stored)
