"""The network to train: the detector's own, with a class layer for the new classes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from ...core.errors import ModelError
from ...models._quiet import keep_generator, quiet_libraries
from ...models.open_vocabulary import is_open_vocabulary

__all__ = ["with_classes"]


def with_classes(network: Any, own: Sequence[str], names: Sequence[str], file: str) -> Any:
    """Return a copy of a detection network that tells `names` apart.

    Classes that it knows keep their weights. A new one starts from the mean of all, which is what
    these have in common: that there is something.

    Parameters
    ----------
    network : torch.nn.Module
        An ultralytics network; it stays as it is.
    own : sequence of str
        Its classes.
    names : sequence of str
        The wanted ones.
    file : str
        What to call the network in messages.

    Raises
    ------
    ModelError
        If it is not a YOLO detector with fixed classes.
    """
    import torch

    with quiet_libraries():
        from ultralytics.nn.modules.head import Detect

    head = network.model[-1]
    plain = isinstance(head, Detect) and network.task == "detect" and hasattr(head, "cv3")
    if not plain or is_open_vocabulary(network):
        raise ModelError(
            f"{file} is not a YOLO detector with fixed classes; fine-tune one such as yolo11s.pt"
        )
    changed = copy.deepcopy(network).float()
    if list(names) == list(own):
        return changed
    head = changed.model[-1]
    rows = {name: row for row, name in enumerate(own)}
    for attribute in ("cv3", "one2one_cv3"):
        for branch in getattr(head, attribute, None) or ():
            old = branch[-1]
            with keep_generator():
                new: Any = torch.nn.Conv2d(old.in_channels, len(names), old.kernel_size)
            with torch.no_grad():
                for row, name in enumerate(names):
                    known = rows.get(name)
                    source = slice(None) if known is None else slice(known, known + 1)
                    new.weight[row] = old.weight[source].mean(dim=0)
                    new.bias[row] = old.bias[source].mean()
            branch[-1] = new
    head.nc = len(names)
    head.no = head.nc + head.reg_max * 4
    changed.nc, changed.names = head.nc, dict(enumerate(names))
    changed.yaml = {**changed.yaml, "nc": head.nc}
    return changed
