"""nano's encoder, taken apart for fine-tuning: frozen layers, upper layers and text tower."""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from retrieval_grounding.finetuning.clip.shares import interpolate as interpolate_weights
from retrieval_grounding.models.clip_weights import hash_weights, load_open_clip
from retrieval_grounding.models.cpu_pool import cpu_pool
from retrieval_grounding.models.fuse_bn import fuse_batch_norm

from .export import INPUT_SIZE, write_folder

MAP_SHAPE = (192, 7, 7)
"""Output of the frozen layers for one crop."""

_STAGES = 5
_BLOCKS = 3  # of stage 5: its last block is the first that is fine-tuned
_HIGHEST_SCALE = math.log(60)
_PHRASES_AT_ONCE = 64
_MAPS_A_THREAD = 16
_MAPS_ON_GPU = 512
_ROWS_ON_GPU = 128
_TOKENIZER_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json")


class DualEncoder(nn.Module):
    """An encoder of `encoder.py`'s architecture with its BatchNorm folded.

    Attributes
    ----------
    frozen : nn.Module
        Image layers up to block 2 of stage 5, pixels (n, 3, 224, 224) to maps (n, 192, 7, 7).
    upper : nn.Module
        The other image layers, with pooling.
    image_head : nn.Module
        Projection of pooled images.
    text : nn.Module
        open_clip's text tower with its projection.
    log_scale : Parameter
        Logarithm of the factor that similarities are multiplied with.
    weights : str
        Hash of the weights as they were loaded.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        model, self._tokenize = load_open_clip(str(folder))
        self.weights = hash_weights(sorted(model.state_dict().items()))
        model.eval()
        example = torch.linspace(-1, 1, 3 * INPUT_SIZE**2).view(1, 3, INPUT_SIZE, INPUT_SIZE)
        visual: Any = fuse_batch_norm(model.visual, example)
        trunk = visual.trunk
        blocks = list(trunk.blocks)
        self.frozen = nn.Sequential(
            trunk.conv_stem, trunk.bn1, *blocks[:_STAGES], *blocks[_STAGES][:_BLOCKS]
        )
        self.upper = nn.Sequential(
            *blocks[_STAGES][_BLOCKS:], *blocks[_STAGES + 1 :],
            trunk.conv_head, trunk.bn2, trunk.global_pool,
        )  # fmt: skip
        self.image_head: nn.Module = visual.head
        self.text: Any = model.text
        self.log_scale = nn.Parameter(model.logit_scale.detach().clone().float())
        self.to(memory_format=torch.channels_last)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.log_scale.device

    @property
    def scale(self) -> torch.Tensor:
        """Factor of similarities in losses."""
        return self.log_scale.clamp(max=_HIGHEST_SCALE).exp()

    def show(self, maps: torch.Tensor, dropout: float = 0.0) -> torch.Tensor:
        """Return unit-length embeddings (n, d) of maps (n, 192, h, w) on the device."""
        count = len(maps)
        if maps.is_cuda:  # cuDNN compiles kernels for each number of rows, so there are few
            maps = functional.pad(maps, (0,) * 7 + (-count % _ROWS_ON_GPU,))
        pooled = self.upper(maps.float().contiguous(memory_format=torch.channels_last))[:count]
        pooled = functional.dropout(pooled, dropout, training=dropout > 0)
        return functional.normalize(self.image_head(pooled), dim=-1)

    def say(self, phrases: Sequence[str]) -> torch.Tensor:
        """Return unit-length embeddings (n, d) of phrases, computed in groups of similar length."""
        order = np.argsort([len(phrase) for phrase in phrases], kind="stable")
        parts = []
        for start in range(0, len(order), _PHRASES_AT_ONCE):
            rows = order[start : start + _PHRASES_AT_ONCE]
            tokens = self._tokenize([phrases[row] for row in rows])
            longest = max(2, int((tokens != 0).sum(1).max()))
            parts.append(self.text(tokens[:, :longest].to(self.device)))
        back = torch.from_numpy(np.argsort(order)).to(self.device)
        return functional.normalize(torch.cat(parts)[back], dim=-1)

    def embed_maps(self, maps: np.ndarray) -> np.ndarray:
        """Return embeddings of cached maps, float32 (n, d)."""
        self.eval()
        on_cpu = self.device.type == "cpu"
        each = _MAPS_A_THREAD if on_cpu else _MAPS_ON_GPU
        parts = [maps[start : start + each] for start in range(0, len(maps), each)]
        shown = cpu_pool().map(self._show, parts) if on_cpu else map(self._show, parts)
        return np.concatenate([*shown])

    @torch.inference_mode()
    def _show(self, maps: np.ndarray) -> np.ndarray:
        embeddings: np.ndarray = self.show(torch.tensor(maps).to(self.device)).cpu().numpy()
        return embeddings

    @torch.inference_mode()
    def embed_phrases(self, phrases: Sequence[str]) -> np.ndarray:
        """Return embeddings of phrases, float32 (n, d)."""
        self.eval()
        embeddings: np.ndarray = self.say(phrases).cpu().numpy()
        return embeddings

    def save(self, folder: Path, former: Path) -> None:
        """Write an open_clip folder with weights in half precision.

        Parameters
        ----------
        folder : Path
            Created if it is missing; files of the same names are replaced.
        former : Path
            The folder that the encoder came from; its tokenizer is copied.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if folder.resolve() != former.resolve():
            for name in _TOKENIZER_FILES:
                shutil.copyfile(former / name, folder / name)
        parts = {
            "text.": self.text.state_dict(),
            "visual.head.": self.image_head.state_dict(),
            "": {"logit_scale": self.log_scale.detach()},
        }
        vocabulary = int(self.text.config.vocab_size)
        write_folder(folder, nn.Sequential(self.frozen, self.upper), parts, vocabulary)


def interpolate(former: DualEncoder, tuned: DualEncoder, share: float) -> DualEncoder:
    """Return ``(1 - share) * former + share * tuned`` for every weight."""
    mixed = copy.deepcopy(former)
    mixed.load_state_dict(interpolate_weights(former.state_dict(), tuned.state_dict(), share))
    return mixed
