#!/usr/bin/env python3
"""Draw a data set in REFER's layout: still lifes, and expressions with one known meaning each.

Then ``retrieval-grounding reproduce refcocog --data FOLDER --preset nano`` reproduces on it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from drawn.refer import draw_refer


def main() -> None:
    """Draw, and say how much."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="new folder for the data set")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--per-image", type=int, default=10, help="expressions of an image")
    parser.add_argument("--held-out", type=float, default=0.1, help="share of val, and of test")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    counts = draw_refer(
        given.folder,
        given.images,
        per_image=given.per_image,
        held_out=given.held_out,
        seed=given.seed,
    )
    print(", ".join(f"{number:,} {name}" for name, number in counts.items()))


if __name__ == "__main__":
    main()
