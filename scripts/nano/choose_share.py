"""Choose how much of the fine-tuned encoder the new one takes over from the former one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from retrieval_grounding.finetuning.guard import Verdict, choose

from .dual_encoder import DualEncoder, interpolate
from .measures import Development, Figures

SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)


def choose_share(former: DualEncoder, tuned: DualEncoder, development: Development) -> float:
    """Measure interpolated encoders, print their figures, and return the share to take."""
    measured = {0.0: development.measure(former)}
    for share in SHARES:
        measured[share] = development.measure(interpolate(former, tuned, share))
    verdict = _judge(measured)
    for share, figures in measured.items():
        values = " ".join(f"{name} {value:.3f}" for name, value in asdict(figures).items())
        forgotten = verdict.fallen.get(share)
        note = f", forgets {' and '.join(forgotten)}" if forgotten else ""
        print(f"share {share:.1f}: {values}{note}", flush=True)
    chosen = verdict.chosen
    print(f"chosen: {1 - chosen:.1f} of the former and {chosen:.1f} of the new weights", flush=True)
    return chosen


def pick_share(measured: Mapping[float, Figures]) -> float:
    """Return the share to take, given the figures of each; share 0 is the former encoder.

    It is the smallest, which forgets least, whose mean IoU is within half a point of the best one
    of those whose names and caption recall fall by at most a point. It is 0 if none of them is
    better than the former encoder.
    """
    return _judge(measured).chosen


def _judge(measured: Mapping[float, Figures]) -> Verdict:
    candidates = {share: asdict(figures) for share, figures in measured.items() if share}
    return choose(asdict(measured[0.0]), candidates, "mean_iou", ("names", "captions"))
