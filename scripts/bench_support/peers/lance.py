"""LanceDB: a table on disk with its IVF_PQ index, refined from the stored vectors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import IvfPq

from bench_support.peers.protocol import Floats, Rows, Setting, folder_bytes, main

BLOCK = 1 << 14


class Lance:
    """A LanceDB table, indexed with its default numbers of partitions and sub-vectors."""

    distribution = "lancedb"

    def build(self, data: Path, folder: Path) -> None:
        """Write the table block by block, then index it."""
        vectors = np.load(data / "vectors.npy", mmap_mode="r")
        kind = pa.list_(pa.float32(), vectors.shape[1])
        schema = pa.schema([("id", pa.int64()), ("vector", kind)])

        def batches() -> Iterator[pa.RecordBatch]:
            for start in range(0, len(vectors), BLOCK):
                part = np.ascontiguousarray(vectors[start : start + BLOCK])
                ids = pa.array(np.arange(start, start + len(part)))
                rows = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), type=kind)
                yield pa.RecordBatch.from_arrays([ids, rows], schema=schema)

        table = lancedb.connect(folder).create_table("regions", batches(), schema=schema)
        table.create_index("vector", config=IvfPq(distance_type="dot"))

    def open(self, data: Path, folder: Path) -> list[Setting]:
        """Open the table; LanceDB's documentation recommends scanning up to 100,000 rows."""
        self.table = lancedb.connect(folder).open_table("regions")
        return [
            {},
            {"scan": 1},
            *(
                {"nprobes": probes, "refine_factor": factor}
                for probes in (8, 16, 32, 64)
                for factor in (2, 4, 8, 16, 32)
            ),
        ]

    def search(self, phrase: Floats, k: int, setting: Setting) -> Rows:
        """Query the table for ids; distances are named because LanceDB warns otherwise."""
        query = self.table.search(phrase).distance_type("dot").limit(k).select(["id", "_distance"])
        if "scan" in setting:
            query = query.bypass_vector_index()
        elif setting:
            query = query.nprobes(setting["nprobes"]).refine_factor(setting["refine_factor"])
        rows: Rows = query.to_arrow()["id"].to_numpy()
        return rows

    def disk_bytes(self, data: Path, folder: Path) -> int:
        """Return the size of table and index."""
        return folder_bytes(folder)


if __name__ == "__main__":
    main(Lance())
