"""Choose how much of the fine-tuned encoder the new one takes over from the former one."""

from __future__ import annotations

from dataclasses import asdict

from .dual_encoder import DualEncoder, interpolate
from .measures import Development, Figures

SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)

_MAY_FALL = 0.01
_NEARLY_BEST = 0.005


def choose_share(former: DualEncoder, tuned: DualEncoder, development: Development) -> float:
    """Measure interpolated encoders, print their figures, and return the share to take.

    It is the smallest, which forgets least, whose mean IoU is within half a point of the best one.
    A share is allowed if names and caption recall fall by at most a point; if none is, the result
    is 0, the former encoder.
    """
    before = development.measure(former)
    _print(0.0, before, "")
    allowed: dict[float, float] = {}
    for share in SHARES:
        figures = development.measure(interpolate(former, tuned, share))
        forgets = [
            name
            for name in ("names", "captions")
            if getattr(before, name) - getattr(figures, name) > _MAY_FALL
        ]
        _print(share, figures, f"forgets {' and '.join(forgets)}" if forgets else "")
        if not forgets and figures.mean_iou > before.mean_iou:
            allowed[share] = figures.mean_iou
    if not allowed:
        print("no share improves mean IoU without forgetting: the former encoder stays", flush=True)
        return 0.0
    best = max(allowed.values())
    chosen = min(share for share, value in allowed.items() if value >= best - _NEARLY_BEST)
    print(f"chosen: {1 - chosen:.1f} of the former and {chosen:.1f} of the new weights", flush=True)
    return chosen


def _print(share: float, figures: Figures, note: str) -> None:
    values = " ".join(f"{name} {value:.3f}" for name, value in asdict(figures).items())
    print(f"share {share:.1f}: {values} {note}".rstrip(), flush=True)
