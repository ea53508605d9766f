"""Index folders of any size, grown from a small real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.progress import track

import retrieval_grounding as rg
from retrieval_grounding.cli.demo import demo_photographs
from retrieval_grounding.storage.catalog import Catalog
from retrieval_grounding.storage.region_store import RegionStore
from retrieval_grounding.storage.rows import StoredImage
from retrieval_grounding.storage.shard_format import ImageRecord, write_shard

SHARD_IMAGES = 512
NOISE = 0.5  # neighbors are then as near as among real regions, measured on 2,088 of them


def seed_index(folder: Path, shared: Path, photos: int) -> Path:
    """Embed photographs once with nano; return the index's folder."""
    if not (folder / "catalog.sqlite").exists():
        found: list[str | Path] = []
        for name in ("coco_val128/images", "refs/images"):
            if (shared / name).is_dir():
                found += sorted(path for path in (shared / name).iterdir() if path.is_file())
        rg.build([*found[:photos]] or demo_photographs(), folder)
    return folder


def grow_index(seed: Path, folder: Path, regions: int) -> None:
    """Create an index folder with about `regions` regions, without its vector index."""
    if (folder / "catalog.sqlite").exists():
        return
    catalog = Catalog(seed)
    store = RegionStore(catalog)
    keys = sorted({(image.shard, image.row) for image in catalog.images()})
    table = store.gather(keys)
    embeddings = table.embeddings.astype(np.float32)
    spread = np.cov((embeddings - embeddings.mean(0)).T)
    values, axes = np.linalg.eigh(spread)
    mix = (NOISE * axes * np.sqrt(values.clip(0))).T.astype(np.float32)
    names = {name: row for row, name in enumerate(table.label_names)}
    random = np.random.default_rng(0)
    images = round(regions / len(table) * len(keys))
    settings = {
        name: catalog.setting(name)
        for name in (
            "preset", "detector", "clip", "detector_settings", "detector_fingerprint",
            "encoder_fingerprint", "dimension", "created_with",
        )
    }  # fmt: skip
    grown = Catalog.create(folder, settings)
    first_shard = store.open_shard(keys[0][0])
    for start in track(range(0, images, SHARD_IMAGES), f"{regions:,} regions"):
        records = []
        for number in range(start, min(start + SHARD_IMAGES, images)):
            shard, row = keys[int(random.integers(len(keys)))]
            reader = store.open_shard(shard)
            record = reader.record(row, f"{number:032x}")
            moved = record.embeddings.astype(np.float32)
            moved += random.normal(size=moved.shape).astype(np.float32) @ mix
            moved /= np.linalg.norm(moved, axis=1, keepdims=True)
            records.append(
                ImageRecord(
                    record.content_hash, record.width, record.height, record.regions, moved,
                    record.colors,
                )
            )  # fmt: skip
        written = write_shard(
            folder / "shards", grown.next_shard(), records,
            embed_labels=lambda known: table.label_embeddings[[names[name] for name in known]],
            detector=first_shard.detector, encoder=first_shard.encoder,
        )  # fmt: skip
        grown.commit(
            shard=written,
            images=[
                StoredImage(f"/photographs/{start + row:09d}.jpg", 1, 1, written.number, row)
                for row in range(len(records))
            ],
        )
    grown.close()
