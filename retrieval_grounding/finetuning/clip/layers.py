"""What is trained: adapters or the layers themselves, each group at its own rate."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from .options import ClipTuningOptions
from .towers import ClipTowers

__all__ = ["Trained"]

_ADAPTED = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)
_HEAD_SHARE = 0.2  # of the rate of adapters: heads have no small start
_TEXT_SHARE = 0.125
_WEIGHT_DECAY = 0.05


class Trained:
    """The trained parameters of a CLIP model.

    Parameters
    ----------
    towers : ClipTowers
        Its model is frozen but for what is trained; with adapters, its layers get some.
    options : ClipTuningOptions
        Adapters or not, rank and rate.
    """

    def __init__(self, towers: ClipTowers, options: ClipTuningOptions) -> None:
        self._towers = towers
        self._wrapped: Any = None
        self._borrowed: list[tuple[Any, torch.Tensor, torch.Tensor]] = []
        model = towers.model
        rate = options.learning_rate(sum(p.numel() for p in model.visual.parameters()))
        heads = dict(towers.heads)
        blocks = {"image": towers.image_blocks, "text": towers.text_blocks}
        model.requires_grad_(False)
        if options.full:
            groups = {name: _parameters(blocks[name]) for name in blocks}
            rates = {"image": rate, "text": rate * _TEXT_SHARE, "heads": rate}
        else:
            self._add_adapters([*blocks["image"], *blocks["text"]], options.rank)
            adapters = [p for name, p in model.named_parameters() if "lora_" in name]
            groups = {"adapters": adapters}
            rates = {"adapters": rate, "heads": rate * _HEAD_SHARE}
        taken = {id(p) for group in groups.values() for p in group}
        groups["heads"] = [p for p in heads.values() if id(p) not in taken]
        self._parameters = [p for group in groups.values() for p in group]
        for parameter in self._parameters:
            parameter.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": part, "lr": rates[name], "weight_decay": decay}
                for name, group in groups.items()
                for decay, part in _by_decay(group)
            ],
            betas=(0.9, 0.98),
        )

    def step(self) -> None:
        """Update the parameters by their gradients, whose length is limited."""
        for group in self.optimizer.param_groups:
            nn.utils.clip_grad_norm_(group["params"], 1.0)
        self.optimizer.step()
        # peft adds an adapter of attention to the weights and subtracts it, at every use. What
        # rounding leaves would add up, and a resumed run would begin without it.
        with torch.no_grad():
            for attention, inner, outer in self._borrowed:
                attention.in_proj_weight.copy_(inner)
                attention.out_proj.weight.copy_(outer)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the trained parameters by number, for a checkpoint."""
        return {
            str(number): parameter.detach().cpu().clone()
            for number, parameter in enumerate(self._parameters)
        }

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what :meth:`state` returned."""
        with torch.no_grad():
            for number, parameter in enumerate(self._parameters):
                parameter.copy_(state[str(number)])

    def merge(self) -> None:
        """Add the adapters to the weights they are for; after that nothing is trained."""
        if self._wrapped is not None:
            self._wrapped.merge_and_unload()
            self._wrapped = None
        self._towers.model.requires_grad_(False)

    def _add_adapters(self, blocks: Iterable[nn.Module], rank: int) -> None:
        """Add adapters to all layers of `blocks` that are run and of a type that can have some."""
        from peft import LoraConfig, get_peft_model
        from peft.tuners.lora.layer import MultiheadAttention

        inside = {id(module) for block in blocks for module in block.modules()}
        names = [
            name
            for name, module in self._towers.model.named_modules()
            if id(module) in inside and id(module) in self._towers.called and _fits(module)
        ]
        if not names:
            return
        pattern = "|".join(map(re.escape, names))
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=f"^({pattern})$")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self._wrapped = get_peft_model(self._towers.model, config)
        attentions: list[Any] = [
            module
            for module in self._towers.model.modules()
            if isinstance(module, MultiheadAttention)
        ]
        self._borrowed = [
            (one, one.in_proj_weight.detach().clone(), one.out_proj.weight.detach().clone())
            for one in attentions
        ]


def _fits(module: nn.Module) -> bool:
    """Return whether an adapter computes what it should beside a layer.

    Subclasses with a forward of their own, such as convolutions that pad differently, and grouped
    convolutions do not fit.
    """
    kind = next((kind for kind in _ADAPTED if isinstance(module, kind)), None)
    if kind is None or type(module).forward is not kind.forward:
        return False
    if isinstance(module, nn.MultiheadAttention):
        return bool(module._qkv_same_embed_dim)
    return not (isinstance(module, nn.Conv2d) and module.groups > 1)


def _parameters(blocks: Iterable[nn.Module]) -> list[nn.Parameter]:
    return [parameter for block in blocks for parameter in block.parameters()]


def _by_decay(group: Iterable[nn.Parameter]) -> list[tuple[float, list[nn.Parameter]]]:
    """Return matrices, which decay, and other parameters, which do not."""
    parts: dict[float, list[nn.Parameter]] = {_WEIGHT_DECAY: [], 0.0: []}
    for parameter in group:
        parts[_WEIGHT_DECAY if parameter.ndim > 1 else 0.0].append(parameter)
    return [(decay, part) for decay, part in parts.items() if part]
