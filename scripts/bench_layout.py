#!/usr/bin/env python3
"""Time reading the regions of 100 images from HDF5 shards of several layouts.

    python scripts/bench_layout.py

This is why shards are contiguous, uncompressed, and mapped into memory; docs/performance.md has the
table.
"""

from __future__ import annotations

import mmap
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from rich.console import Console
from rich.table import Table

SHARDS, REGIONS, DIMENSION, AN_IMAGE, IMAGES = 20, 7500, 256, 15, 100
LAYOUTS: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunks of 15 rows": {"chunks": (15, DIMENSION)},
    "chunks of 512 rows": {"chunks": (512, DIMENSION)},
    "chunks of 512 rows, gzip 4": {"chunks": (512, DIMENSION), "compression": "gzip"},
}


def read_mapped(files: list[h5py.File], wanted: np.ndarray) -> float:
    """Return the milliseconds for reading slices of mapped files."""
    views = []
    for file in files:
        offset = file["e"].id.get_offset()
        with Path(file.filename).open("rb") as raw:
            mapped = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
        views.append(
            np.frombuffer(mapped, "f2", REGIONS * DIMENSION, offset).reshape(-1, DIMENSION)
        )
    began = time.perf_counter()
    np.concatenate([views[shard][row : row + AN_IMAGE] for shard, row in wanted])
    return (time.perf_counter() - began) * 1000


def read_library(files: list[h5py.File], wanted: np.ndarray) -> float:
    """Return the milliseconds for reading slices with the HDF5 library."""
    datasets = [file["e"] for file in files]
    began = time.perf_counter()
    np.concatenate([datasets[shard][row : row + AN_IMAGE] for shard, row in wanted])
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Print the table."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(REGIONS, DIMENSION)).astype("f2")
    shards = random.integers(SHARDS, size=(30, IMAGES))
    firsts = random.integers(REGIONS // AN_IMAGE, size=(30, IMAGES)) * AN_IMAGE
    table = Table("layout", "reader", "100 images, ms", "MB")
    for name, how in LAYOUTS.items():
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{number}.h5" for number in range(SHARDS)]
            for path in paths:
                with h5py.File(path, "w") as file:
                    file.create_dataset("e", data=rows, **how)
            megabytes = sum(path.stat().st_size for path in paths) / 2**20
            readers = {"HDF5": read_library} | ({} if how else {"mapped": read_mapped})
            for reader, read in readers.items():
                files = [h5py.File(path, "r") for path in paths]
                taken = [read(files, np.stack(one, 1)) for one in zip(shards, firsts, strict=True)]
                table.add_row(name, reader, f"{np.median(taken):.2f}", f"{megabytes:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
