"""The method of rclip: one float32 matrix in memory, multiplied with each phrase."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench_support.peers.protocol import Floats, Rows, Setting, folder_bytes, main


class Scan:
    """Brute force in NumPy; sorts only the best rows, which is faster than sorting all."""

    distribution = "numpy"

    def build(self, data: Path, folder: Path) -> None:
        """Store the embeddings."""
        np.save(folder / "vectors.npy", np.load(data / "vectors.npy"))

    def open(self, data: Path, folder: Path) -> list[Setting]:
        """Read them all."""
        self.matrix = np.load(folder / "vectors.npy")
        return [{}]

    def search(self, phrase: Floats, k: int, setting: Setting) -> Rows:
        """Compare every region."""
        scores = self.matrix @ phrase
        best = np.argpartition(-scores, k)[:k] if k < len(scores) else np.arange(len(scores))
        return best[np.argsort(-scores[best])]

    def disk_bytes(self, data: Path, folder: Path) -> int:
        """Return the size of the matrix."""
        return folder_bytes(folder)


if __name__ == "__main__":
    main(Scan())
