"""milvus-lite: Milvus's client on a local file, with its default index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pymilvus import DataType, MilvusClient

from bench_support.peers.protocol import Floats, Rows, Setting, folder_bytes, main

BLOCK = 5_000
NAME = "regions"


class Milvus:
    """A collection with one vector field, queried through the client."""

    distribution = "milvus-lite"

    def build(self, data: Path, folder: Path) -> None:
        """Insert block by block, then index."""
        vectors = np.load(data / "vectors.npy", mmap_mode="r")
        client = MilvusClient(str(folder / "regions.db"))
        schema = client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
        client.create_collection(NAME, schema=schema)
        for start in range(0, len(vectors), BLOCK):
            part = np.array(vectors[start : start + BLOCK])
            client.insert(
                NAME, [{"id": start + row, "vector": vector} for row, vector in enumerate(part)]
            )
        client.flush(NAME)
        index = client.prepare_index_params()
        index.add_index("vector", index_type="AUTOINDEX", metric_type="IP")
        client.create_index(NAME, index)
        client.load_collection(NAME)
        client.close()

    def open(self, data: Path, folder: Path) -> list[Setting]:
        """Start the local server, connect, and load."""
        self.client = MilvusClient(str(folder / "regions.db"))
        self.client.load_collection(NAME)
        return [{}, *({"ef": width} for width in (400, 512, 768, 1024, 1536, 2048, 4096))]

    def search(self, phrase: Floats, k: int, setting: Setting) -> Rows:
        """Search through the client."""
        (hits,) = self.client.search(
            NAME, [phrase], limit=k, search_params={"metric_type": "IP", "params": setting}
        )
        return np.array([hit["id"] for hit in hits], np.int64)

    def disk_bytes(self, data: Path, folder: Path) -> int:
        """Return the size of all files of the collection."""
        return folder_bytes(folder)


if __name__ == "__main__":
    main(Milvus())
