"""Folders of open_clip whose text tower is a BERT: recognized and read without open_clip.

The bundled encoder is such a folder. Whatever differs from what is known here, be it one key of a
configuration, is left to open_clip.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from ..core.threads import single_thread
from .bert_shape import BertShape
from .clip_weights import WEIGHTS_FILE, hash_stored_weights

if TYPE_CHECKING:
    import torch

    from .word_pieces import WordPieces

__all__ = ["BertFolder", "read_bert_folder"]

_CONFIGS = ("open_clip_config.json", "config.json", "tokenizer_config.json")
_MORE_TOKENS = ("special_tokens_map.json", "added_tokens.json")
_TOKENIZER_FILE = "tokenizer.json"

_TEXT_TOWER = {"hf_model_name": ".", "hf_proj_type": "mlp", "hf_pooler_type": "mean_pooler"}
_TEXT_KEYS = {"context_length", "vocab_size", "hf_tokenizer_name", "hf_model_pretrained"}
_BERT = {"model_type": "bert", "hidden_act": "gelu"}
_IN_TRAINING = {
    "architectures", "attention_probs_dropout_prob", "classifier_dropout", "dtype",
    "gradient_checkpointing", "hidden_dropout_prob", "initializer_range", "torch_dtype",
    "transformers_version", "use_cache",
}  # fmt: skip
_TOKENIZER = {"tokenizer_class": "PreTrainedTokenizerFast"}
_TOKENIZER_KEYS = {
    "model_max_length", "pad_token", "unk_token", "cls_token", "sep_token", "mask_token"
}  # fmt: skip
_PREPROCESSING_KEYS = {"size", "mode", "mean", "std", "interpolation", "resize_mode"}


@dataclass(frozen=True)
class BertFolder:
    """What such a folder contains.

    Parameters
    ----------
    shape : BertShape
        Sizes of the text tower.
    tokenizer : WordPieces
        Its tokenizer.
    text_weights : dict of str to tensor
        Those of the text tower by name, float32.
    hash : str
        Of all weights of both towers, as open_clip's model has them.
    preprocessing : dict
        ``size`` of the image tower's input, ``mean``, ``std``, ``interpolation``.
    """

    shape: BertShape
    tokenizer: WordPieces
    text_weights: dict[str, torch.Tensor]
    hash: str
    preprocessing: dict[str, Any]


def read_bert_folder(folder: Path) -> BertFolder | None:
    """Return what a folder contains, or None if it has to be left to open_clip."""
    try:
        return _read(folder)
    except (
        OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, SafetensorError
    ):  # fmt: skip
        return None  # open_clip says what is wrong


def _read(folder: Path) -> BertFolder | None:
    if {path.name for path in folder.glob("*config*.json")} != set(_CONFIGS) or any(
        (folder / name).exists() for name in _MORE_TOKENS
    ):
        return None
    clip, bert, tokens = (
        json.loads((folder / name).read_text(encoding="utf-8")) for name in _CONFIGS
    )
    model, preprocessing = clip["model_cfg"], clip["preprocess_cfg"]
    image, text = model["vision_cfg"], model["text_cfg"]
    sizes = {field.name for field in fields(BertShape)}
    if not (
        clip.keys() == {"model_cfg", "preprocess_cfg"}
        and model.keys() == {"embed_dim", "vision_cfg", "text_cfg"}
        and "timm_model_name" in image
        and preprocessing.keys() == _PREPROCESSING_KEYS
        and _agrees(text, _TEXT_TOWER, _TEXT_KEYS)
        and text.get("hf_tokenizer_name")  # whatever it is, open_clip takes the folder's own
        and _agrees(bert, _BERT, sizes | _IN_TRAINING)
        and _agrees(tokens, _TOKENIZER, _TOKENIZER_KEYS)
    ):
        return None
    shape, context = BertShape(**{name: bert[name] for name in sizes}), text["context_length"]
    tokenizer = _read_tokenizer(folder / _TOKENIZER_FILE, context, tokens)
    if (
        tokenizer is None
        or shape.hidden_size % shape.num_attention_heads
        or not 2 <= context <= shape.max_position_embeddings
        or tokenizer.padding != shape.pad_token_id
        or tokenizer.size > shape.vocab_size
    ):
        return None
    weights = _read_weights(folder / WEIGHTS_FILE, shape.weights(model["embed_dim"]))
    if weights is None:
        return None
    return BertFolder(shape, tokenizer, *weights, preprocessing | {"size": image["image_size"]})


def _agrees(
    config: Mapping[str, Any], expected: Mapping[str, Any], others: Collection[str]
) -> bool:
    """Return whether a configuration has the `expected` values, and no key but these and others."""
    return all(
        config[key] == expected[key] if key in expected else key in others
        for key in config.keys() | expected.keys()
    )


def _read_tokenizer(file: Path, context: int, settings: dict[str, Any]) -> WordPieces | None:
    from .word_pieces import WordPieces  # imports the library of tokenizers

    try:
        return WordPieces(file, context, settings)
    except Exception:  # the library of tokenizers has no type of its own
        return None


def _read_weights(
    file: Path, text_shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, torch.Tensor], str] | None:
    """Return the text tower's weights and the hash of all, or None if they are unexpected."""
    import torch
    from safetensors.torch import load_file

    stored = load_file(file)
    expected = dict(text_shapes) | {"logit_scale": ()}
    found = {
        name: tuple(value.shape) if value.is_floating_point() else None
        for name, value in stored.items()
        if not name.startswith("visual.")
    }
    if found != expected:
        return None
    with single_thread():
        # Copies, not of the mapped file.
        text = {name: stored[name].to(torch.float32, copy=True) for name in text_shapes}
    return text, hash_stored_weights(stored)
