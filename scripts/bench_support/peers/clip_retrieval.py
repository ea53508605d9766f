"""The method of clip-retrieval: autofaiss chooses, trains and tunes a FAISS index."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from autofaiss import build_index

from bench_support.peers.protocol import Floats, Rows, Setting, folder_bytes, main

MEMORY = {"max_index_memory_usage": "4G", "current_memory_available": "16G"}
"""Defaults of ``clip-retrieval index``."""


class ClipRetrieval:
    """The index that ``clip-retrieval index`` creates, searched as its back end does."""

    distribution = "autofaiss"

    def build(self, data: Path, folder: Path) -> None:
        """Let autofaiss choose; it aims for 10 ms per search, measured with stored vectors."""
        build_index(
            np.load(data / "vectors.npy", mmap_mode="r"),
            index_path=str(folder / "image.index"),
            index_infos_path=str(folder / "image.json"),
            nb_cores=int(os.environ["OMP_NUM_THREADS"]),
            metric_type="ip",
            verbose=40,
            **MEMORY,
        )

    def open(self, data: Path, folder: Path) -> list[Setting]:
        """Read the index, which includes the parameters that autofaiss chose."""
        self.index = faiss.read_index(str(folder / "image.index"))
        try:
            faiss.extract_index_ivf(self.index)
            self.name, efforts = "nprobe", [4, 8, 16, 32, 64, 128, 256]
        except RuntimeError:  # a graph
            self.name, efforts = "efSearch", [400, 512, 768, 1024, 1536, 2048, 4096]
        self.own = self._inner().hnsw.efSearch if self.name == "efSearch" else self._inner().nprobe
        return [{}, *({self.name: effort} for effort in efforts)]

    def search(self, phrase: Floats, k: int, setting: Setting) -> Rows:
        """Search with FAISS."""
        effort = setting.get(self.name, self.own)
        faiss.ParameterSpace().set_index_parameter(self.index, self.name, effort)
        rows: Rows = self.index.search(phrase[None], k)[1][0]
        return rows

    def disk_bytes(self, data: Path, folder: Path) -> int:
        """Return the size of the index."""
        return folder_bytes(folder)

    def _inner(self) -> Any:
        if self.name == "nprobe":
            return faiss.extract_index_ivf(self.index)
        return faiss.downcast_index(self.index)


if __name__ == "__main__":
    main(ClipRetrieval())
