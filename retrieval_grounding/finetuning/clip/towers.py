"""A CLIP model taken apart for training: its upper image layers, its text tower, its heads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .blocks import UpperTower, can_cut, study

__all__ = ["ClipTowers"]

_HIGHEST_SCALE = math.log(100)
_ROWS_ON_GPU = 64
"""Batches on a GPU have a multiple of so many rows."""

_PHRASES_AT_ONCE = 64
_EXAMPLES = ("a red bus", "two men in suits on the left")
_SHARE_OF_BLOCKS = 4  # a quarter is trained


class ClipTowers:
    """A CLIP model, with what is to be trained of it.

    Parameters
    ----------
    model
        open_clip's model, on the CPU, in float32; it is changed.
    tokenizer
        open_clip's tokenizer of the model.
    layers : int or None
        How many of the image tower's last blocks are trained; None is a quarter.
    device : str
        Where to run.

    Attributes
    ----------
    upper : UpperTower
        The image tower from the first trained block on.
    image_blocks, text_blocks : list of nn.Module
        The blocks that are trained.
    heads : list of (str, nn.Parameter)
        What comes after the last blocks, and the scale of similarities.
    called : frozenset of int
        Ids of the modules that are run, and do not only lend their weights.
    """

    def __init__(self, model: Any, tokenizer: Any, layers: int | None, device: str) -> None:
        self.model = model.eval().to(device)
        self.device = device
        self._tokenizer = tokenizer
        config = model.visual.preprocess_cfg
        self.size = int(np.max(config["size"]))
        self.interpolation: str = config["interpolation"]
        self._mean = torch.tensor(config["mean"], device=device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(config["std"], device=device).view(1, 3, 1, 1) * 255
        pixels = torch.linspace(-1, 1, 3 * 3 * self.size**2, device=device)
        pixels = pixels.view(3, 3, self.size, self.size)
        image = study([model.visual], lambda: model.visual(pixels))
        count = -(-len(image.blocks) // _SHARE_OF_BLOCKS) if layers is None else layers
        first = max(0, len(image.blocks) - count)
        cut = 0 < first < len(image.blocks) and can_cut(model.visual, image.blocks, first, pixels)
        self.image_blocks = image.blocks[first:]
        below = image.blocks[:first]
        self.upper = UpperTower(
            model.visual, image.blocks[first] if cut else None, below, self.size
        )
        tokens = self._tokenize(_EXAMPLES)
        roots = [part for name, part in model.named_children() if name != "visual"]
        text = study(roots, lambda: model.encode_text(tokens))
        self.text_blocks = text.blocks
        self.called = image.called | text.called
        self.shortens = self._may_shorten(tokens)
        self.heads = self._heads(image.after if image.blocks else [model.visual], text.after)

    @property
    def scale(self) -> Tensor:
        """Factor of similarities in losses."""
        scale: Tensor = self.model.logit_scale.clamp(max=_HIGHEST_SCALE).exp()
        return scale

    def normalized(self, pixels: np.ndarray) -> Tensor:
        """Return crops, uint8 (n, size, size, 3), as the tower was trained to see them."""
        values = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float()
        return values.sub_(self._mean).div_(self._std)

    @torch.no_grad()
    def run_whole(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what the cache keeps of crops: inputs of the upper part, and embeddings.

        Parameters
        ----------
        pixels : uint8 array of shape (n, size, size, 3)
            Crops.

        Returns
        -------
        inputs : array of shape (n, ...)
            float16, or the pixels themselves if nothing is frozen.
        embeddings : float16 array of shape (n, d)
            Unit length.
        """
        inputs, shown = self.upper.whole(self.normalized(pixels))
        embeddings = functional.normalize(shown.float(), dim=-1).half().cpu().numpy()
        if self.upper.block is None:
            return pixels, embeddings
        return inputs.half().cpu().numpy(), embeddings

    def show(self, inputs: np.ndarray) -> Tensor:
        """Return unit-length embeddings (n, d) of what the cache has kept of crops."""
        count = len(inputs)
        if self.device.startswith("cuda"):  # cuDNN compiles kernels for each number of rows
            empty = np.zeros((-count % _ROWS_ON_GPU, *inputs.shape[1:]), inputs.dtype)
            inputs = np.concatenate([inputs, empty])
        if self.upper.block is None:
            values = self.normalized(inputs)
        else:
            values = torch.from_numpy(inputs).to(self.device).float()
        return functional.normalize(self.upper(values)[:count].float(), dim=-1)

    def say(self, phrases: Sequence[str]) -> Tensor:
        """Return unit-length embeddings (n, d) of phrases, in groups of similar length."""
        order = np.argsort([len(phrase) for phrase in phrases], kind="stable")
        parts = []
        for start in range(0, len(order), _PHRASES_AT_ONCE):
            rows = order[start : start + _PHRASES_AT_ONCE]
            tokens = self._tokenize([phrases[row] for row in rows])
            if self.shortens:
                tokens = tokens[:, : max(2, int((tokens != 0).sum(1).max()))]
            parts.append(self.model.encode_text(tokens, normalize=True).float())
        return torch.cat(parts)[torch.from_numpy(np.argsort(order)).to(self.device)]

    @torch.inference_mode()
    def embed_phrases(self, phrases: Sequence[str]) -> np.ndarray:
        """Return embeddings of phrases, float32 (n, d)."""
        embeddings: np.ndarray = self.say(phrases).cpu().numpy()
        return embeddings

    @torch.inference_mode()
    def embed_inputs(self, inputs: np.ndarray) -> np.ndarray:
        """Return embeddings of inputs of the upper part, float32 (n, d)."""
        embeddings: np.ndarray = self.show(inputs).cpu().numpy()
        return embeddings

    def state(self) -> dict[str, Tensor]:
        """Return a copy of all weights, on the CPU."""
        return {
            name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()
        }

    def _tokenize(self, phrases: Sequence[str]) -> Tensor:
        tokens: Tensor = self._tokenizer(list(phrases))
        return tokens.to(self.device)

    @torch.no_grad()
    def _may_shorten(self, tokens: Tensor) -> bool:
        """Return whether the padding after phrases can be left out."""
        used = int((tokens != 0).sum(1).max())
        if not 2 <= used < tokens.shape[1]:
            return False
        try:
            whole, short = (self.model.encode_text(t) for t in (tokens, tokens[:, :used]))
        except RuntimeError:  # the tower wants its full length
            return False
        return bool(torch.allclose(whole, short, rtol=1e-3, atol=1e-4))

    def _heads(
        self, image: Iterable[nn.Module], text: Iterable[nn.Module]
    ) -> list[tuple[str, nn.Parameter]]:
        """Return the parameters after the last blocks: projections, norms, poolings."""
        wanted = {id(p) for module in (*image, *text) for p in module.parameters()}
        loose = ("visual.proj", "text_projection", "text.text_projection", "logit_scale")
        return [
            (name, parameter)
            for name, parameter in self.model.named_parameters()
            if id(parameter) in wanted or name in loose
        ]
