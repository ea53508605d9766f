"""The identity of a training run: a hash of everything that its result depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..core.version import __version__
from .config import MATCHER_FORMAT
from .dataset import COLUMNS, PHRASE_COLUMNS, Examples
from .model import MatcherModel
from .options import TrainingOptions

__all__ = ["training_identity"]


def training_identity(
    model: MatcherModel,
    vocabulary: Sequence[str],
    training: Examples,
    validation: Examples,
    options: TrainingOptions,
    origin: str,
) -> str:
    """Return a BLAKE2b-128 hash of what determines a trained network.

    Parameters
    ----------
    model : MatcherModel
        With the weights that training starts from.
    vocabulary : sequence of str
        The words that it knows.
    training, validation : Examples
        Phrases, their embeddings, images, boxes and weights.
    options : TrainingOptions
        All but `progress` count.
    origin : str
        The contents of the images and the encoder.
    """
    digest = hashlib.blake2b(digest_size=16)

    def add(value: bytes) -> None:
        digest.update(len(value).to_bytes(8, "little"))
        digest.update(value)

    def add_json(value: Any) -> None:
        add(json.dumps(value).encode())

    chosen = asdict(options)
    del chosen["progress"]
    add_json([__version__, MATCHER_FORMAT, type(model).__name__, list(vocabulary), chosen, origin])
    for name, value in model.state_dict().items():
        add_json([name, list(value.shape)])
        add(value.detach().cpu().contiguous().numpy().tobytes())
    for examples in (training, validation):
        used = np.unique(np.concatenate([getattr(examples, name) for name in PHRASE_COLUMNS]))
        used = used[used >= 0]
        add_json([examples.phrases.texts[row] for row in used.tolist()])
        add(np.ascontiguousarray(examples.phrases.embeddings[used]).tobytes())
        for column in COLUMNS:
            add(np.ascontiguousarray(getattr(examples, column)).tobytes())
    return digest.hexdigest()
