"""Shared fixtures: instant models, small pictures, and data outside the project."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import ColorEncoder, SquareDetector, draw_squares
from hypothesis import HealthCheck, settings

# A busy machine is no reason to fail: what counts is what the code answers, not how soon.
settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any-machine")


@pytest.fixture(scope="session", autouse=True)
def configuration(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what users consent to out of the developer's own configuration."""
    os.environ["RETRIEVAL_GROUNDING_CONFIG"] = str(tmp_path_factory.mktemp("config"))


@pytest.fixture
def models() -> dict[str, object]:
    return {"detector": SquareDetector(), "clip": ColorEncoder()}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of four pictures with colored rectangles."""
    folder = tmp_path / "photos"
    folder.mkdir()
    draw_squares(folder / "a.png", {"red": (5, 5, 25, 25)})
    draw_squares(folder / "b.png", {"green": (30, 10, 60, 40)})
    draw_squares(folder / "c.png", {"red": (40, 30, 70, 55), "blue": (2, 2, 20, 20)})
    draw_squares(folder / "d.png", {})
    return folder


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Return files that lie beside a developer's checkout, or skip and name what is missing."""
    default = Path(__file__).parents[2] / "shared"
    root = Path(os.environ.get("RETRIEVAL_GROUNDING_SHARED", default))

    def find(name: str) -> Path:
        path = root / name
        if not path.exists():
            pytest.skip(f"needs {name} in the folder shared/ beside the checkout")
        return path

    return find
