"""retrieval_grounding's own vector search, re-scoring included, without re-ranking.

The index folder exists already: ``build`` rebuilds its vector index, as ``reindex`` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import retrieval_grounding as rg
from bench_support.peers.protocol import CANDIDATES, Floats, Rows, Setting, main
from bench_support.phrases import KnownPhrases

PHRASES = "phrases.npz"


class Ours:
    """The index folder's vector index, which was tuned when it was built."""

    distribution = "retrieval_grounding"

    def build(self, data: Path, folder: Path) -> None:
        """Rebuild and tune the vector index; the shards with the embeddings stay."""
        encoder = KnownPhrases.load(data / PHRASES)
        encoder.fallback = True
        rg.Index.open(folder, encoder=encoder, device="cpu").reindex("auto", progress=False)

    def open(self, data: Path, folder: Path) -> list[Setting]:
        """Open the index folder."""
        encoder = KnownPhrases.load(data / PHRASES)
        self.index = rg.Index.open(folder, encoder=encoder, device="cpu")
        self.state: Any = self.index._opened.retriever.snapshot()
        self.ids = np.load(data / "ids.npy", mmap_mode="r")
        tuning = self.state.metadata.tuning
        if tuning is None:
            return [{"exact": "float16"}]
        return [
            {
                "nprobe": tuning.parameters.nprobe,
                "re-scored": CANDIDATES * tuning.refine_factor,
            }
        ]

    def search(self, phrase: Floats, k: int, setting: Setting) -> Rows:
        """Search for the candidate images' regions; `k` is unused, since their number was tuned."""
        (ids,), _ = self.state.vectors.nearest(phrase[None], CANDIDATES)
        rows: Rows = np.searchsorted(self.ids, ids)
        return rows

    def disk_bytes(self, data: Path, folder: Path) -> int:
        """Return the size of the vector index, and of the embeddings for re-scoring."""
        size = next(folder.glob("vectors*.faiss")).stat().st_size
        if self.state.index.kind == "flat":
            return size
        return size + 2 * len(self.ids) * self.index.encoder.dimension


if __name__ == "__main__":
    main(Ours())
