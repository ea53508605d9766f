"""The early exit inside an image: which regions are worth the costly half of the network.

Attention among regions and what follows it take most of the time, and the region that wins in an
image is nearly always among the best few of a small head that looks at the states before attention.
"""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["KEPT_REGIONS", "EarlyExit"]


KEPT_REGIONS = 6
"""Regions of an image that are scored to the end; docs/performance.md has the measurement."""


class EarlyExit(nn.Module):
    """Guesses the order of an image's regions from their states before attention.

    Parameters
    ----------
    width : int
        Length of the states.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(width + 1, width // 2)
        self.second = nn.Linear(width // 2, 1, bias=False)  # a bias would not change the order

    def forward(self, states: torch.Tensor, guess: torch.Tensor) -> torch.Tensor:
        """Return scores (n,) that only regions of one image share; higher is better.

        Parameters
        ----------
        states : tensor of shape (n, width)
            Of the regions, before they attend to each other.
        guess : tensor of shape (n,)
            The network's first guess of the logit.
        """
        weight = self.first.weight
        hidden = torch.addmm(self.first.bias, states, weight[:, :-1].T)
        hidden = torch.addcmul(hidden, guess[:, None], weight[:, -1]).relu_()
        scores: torch.Tensor = hidden @ self.second.weight[0]
        return scores
