from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from retrieval_grounding.models.fuse_bn import fuse_batch_norm


def with_statistics(model: nn.Module) -> nn.Module:
    """Give every BatchNorm statistics that matter, as training does."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18"])
def test_a_folded_tower_gives_the_same_without_batch_norm(name):
    tower = with_statistics(timm.create_model(name, num_classes=7))
    pixels = torch.rand(2, 3, 64, 64)
    folded = fuse_batch_norm(tower, pixels)
    assert norms(tower) > 0
    assert norms(folded) == 0
    with torch.inference_mode():
        torch.testing.assert_close(folded(pixels), tower(pixels), rtol=1e-3, atol=1e-3)


class OutOfOrder(nn.Module):
    """Runs the norm before the convolution that is registered first."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.convolution(self.norm(pixels))


def test_a_tower_that_runs_in_another_order_is_left_alone():
    tower = with_statistics(OutOfOrder())
    assert fuse_batch_norm(tower, torch.rand(2, 3, 16, 16)) is tower


def test_a_tower_without_batch_norm_is_left_alone():
    tower = nn.Conv2d(3, 3, 3)
    assert fuse_batch_norm(tower, torch.rand(1, 3, 8, 8)) is tower
