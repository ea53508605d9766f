"""Which names a YOLO model detects: a choice of its classes, or a vocabulary of one's own.

An open-vocabulary model (YOLO-World, YOLOE) compares image features with embeddings of names. They
come from the checkpoint; :func:`write_vocabulary` writes one with other names. Ultralytics would
download a text model for that, which nobody has asked for.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ModelError
from ._quiet import quiet_libraries
from .checks import encode_phrases
from .clip import load_encoder
from .yolo_checkpoint import find_detector, load_yolo, save_yolo

if TYPE_CHECKING:
    import torch

__all__ = ["choose_classes", "is_open_vocabulary", "write_vocabulary"]

_SAME_TEXT_MODEL = 0.9
"""Embeddings of one name by two copies of a text model have at least this cosine."""

_TEXT_MODELS = {
    "clip:ViT-B/32": "ViT-B-32-quickgelu:openai",
    "mobileclip:blt": "MobileCLIP-B:datacompdr_lt",
    "mobileclip2:b": "MobileCLIP2-B:dfndr2b",
}
"""Names of text models in ultralytics, and of the same weights in open_clip."""


def is_open_vocabulary(network: Any) -> bool:
    """Return whether an ultralytics network compares with embeddings of names."""
    with quiet_libraries():
        from ultralytics.nn.tasks import WorldModel, YOLOEModel
    return isinstance(network, (WorldModel, YOLOEModel))


def choose_classes(
    network: Any, names: Sequence[str], classes: Sequence[str] | None, file: str
) -> tuple[list[str], list[int] | None]:
    """Make a network detect `classes` alone, if it can choose before it looks.

    Parameters
    ----------
    network : torch.nn.Module
        The ultralytics network, which is changed.
    names : sequence of str
        Its class names.
    classes : sequence of str or None
        The wanted ones; None for all.
    file : str
        What to call the network in messages.

    Returns
    -------
    names : list of str
        The classes that the network detects now.
    kept : list of int or None
        The numbers of those to keep of what it finds; None for all.

    Raises
    ------
    ModelError
        If a class is not among its names, or it has no embeddings of names.
    """
    if missing := [name for name in classes or () if name not in names]:
        raise ModelError(_missing_name(missing[0], names, _takes_names(network), file))
    wanted = list(range(len(names))) if classes is None else [names.index(c) for c in classes]
    if not _takes_names(network):
        return list(names), None if classes is None else wanted
    embeddings = _embeddings(network)
    if embeddings is None or embeddings.shape[1] != len(names):
        raise ModelError(
            f"{file} detects only names whose embeddings it holds, and it holds none; write a "
            f"checkpoint that does: 'retrieval-grounding vocabulary {file} --classes NAMES "
            f"--text-model {_text_model(network)} -o FILE.pt', or use a prompt-free one, such "
            "as yoloe-11l-seg-pf.pt"
        )
    _set_embeddings(network, [names[row] for row in wanted], embeddings[:, wanted])
    return [names[row] for row in wanted], None


def write_vocabulary(
    detector: str, names: Sequence[str], text_model: str, out: Path, device: str = "auto"
) -> None:
    """Write a copy of an open-vocabulary detector that detects the given names.

    Parameters
    ----------
    detector : str
        A YOLO-World or YOLOE checkpoint that is not prompt-free, as for :func:`load_detector`.
    names : sequence of str
        What to detect.
    text_model : str
        The CLIP model whose text tower the detector was trained with, as for
        :func:`load_encoder`. For YOLO-World, it is checked against the embeddings that the
        checkpoint holds.
    out : path
        The ``.pt`` file to write.
    device : str
        Where the text tower runs.

    Raises
    ------
    ModelError
        If the detector takes no names, or the text model is not the one it was trained with.
    """
    import torch

    weights = find_detector(detector)
    yolo = load_yolo(weights)
    network = yolo.model
    if not _takes_names(network):
        raise ModelError(
            f"the names that {weights.name} detects are fixed; choose among them with --classes, "
            "or name a YOLO-World or YOLOE checkpoint that is not prompt-free"
        )
    chosen = list(dict.fromkeys(names))
    if not chosen or not all(name.strip() for name in chosen):
        raise ModelError("a vocabulary needs at least one name, and none may be empty")
    encoder = load_encoder(text_model, device)
    width = _width(network)
    if encoder.dimension != width:
        raise ModelError(
            f"{weights.name} compares with text embeddings of {width} numbers, and {text_model} "
            f"has {encoder.dimension}; its text model is {_text_model(network)}"
        )
    held = list(yolo.names.values())
    trained = getattr(network, "txt_feats", None)
    if trained is not None and trained.shape[1] == len(held):
        ours = torch.from_numpy(encode_phrases(encoder, held))
        cosine = torch.nn.functional.cosine_similarity(ours, trained[0].float()).median()
        if cosine < _SAME_TEXT_MODEL:
            raise ModelError(
                f"{text_model} embeds the names of {weights.name} differently than the text model "
                f"it was trained with (median cosine {float(cosine):.2f}); that is "
                f"{_text_model(network)}"
            )
    embeddings = torch.from_numpy(encode_phrases(encoder, chosen))[None]
    with torch.no_grad():
        if trained is None:  # YOLOE refines them; YOLO-World uses them as they are
            embeddings = network.model[-1].get_tpe(embeddings)
        _set_embeddings(network, chosen, embeddings)
    save_yolo(network, out, int(yolo.overrides.get("imgsz", 640)))


def _takes_names(network: Any) -> bool:
    """Return whether the network takes embeddings of names as an input."""
    if not is_open_vocabulary(network):
        return False
    head = network.model[-1]
    return not (hasattr(head, "lrpc") or getattr(head, "is_fused", False))


def _embeddings(network: Any) -> torch.Tensor | None:
    """Return the embeddings of names that a network holds, (1, names, d), or None."""
    import torch

    for attribute in ("txt_feats", "pe"):
        held = getattr(network, attribute, None)
        if isinstance(held, torch.Tensor) and held.ndim == 3:
            return held
    return None


def _set_embeddings(network: Any, names: Sequence[str], embeddings: torch.Tensor) -> None:
    attribute = "txt_feats" if hasattr(network, "txt_feats") else "pe"
    setattr(network, attribute, embeddings.contiguous())
    network.model[-1].nc = len(names)
    network.names = dict(enumerate(names))


def _width(network: Any) -> int:
    head = network.model[-1]
    return int(getattr(head, "embed", 0) or network.txt_feats.shape[-1])


def _text_model(network: Any) -> str:
    """Return open_clip's name of the text model that a network was trained with."""
    known = getattr(network, "text_model", "mobileclip:blt")
    return _TEXT_MODELS.get("clip:ViT-B/32" if hasattr(network, "txt_feats") else known, "NAME")


def _missing_name(name: str, names: Sequence[str], takes_names: bool, file: str) -> str:
    close = difflib.get_close_matches(name, names, n=3)
    near = f"; it knows {', '.join(map(repr, close))}" if close else ""
    way = (
        "write a checkpoint that does with 'retrieval-grounding vocabulary'"
        if takes_names
        else "name some of its own classes"
    )
    return f"{file} does not know {name!r} among its {len(names)} names{near}; {way}"
