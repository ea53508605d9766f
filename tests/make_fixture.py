"""Create the index that is kept forever as an example of the current format version.

    python tests/make_fixture.py

Run it once when a format version is released, never again for that version.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
import zipfile
from pathlib import Path

from fakes import ColorEncoder, SquareDetector, draw_squares

import retrieval_grounding as rg
from retrieval_grounding.storage.migrations import FORMAT_VERSION

FIXTURES = Path(__file__).parent / "fixtures"
DAY = 1_750_000_000_000_000_000


def make(target: Path) -> None:
    """Write an index with two shards, an unused row, a duplicate, a skipped file and metadata."""
    with tempfile.TemporaryDirectory() as folder:
        photos, index = Path(folder) / "photos", Path(folder) / "index"
        photos.mkdir()
        options = rg.BuildOptions(batch_images=2, shard_images=2, workers=1, progress=False)

        def build(metadata: Path | None = None) -> None:
            for path in photos.iterdir():
                os.utime(path, ns=(DAY, DAY))
            rg.build(
                photos, index, detector=SquareDetector(), clip=ColorEncoder(), options=options,
                metadata=metadata,
            )  # fmt: skip

        draw_squares(photos / "a.png", {"red": (5, 5, 25, 25)})
        draw_squares(photos / "b.png", {"green": (30, 10, 60, 40), "blue": (2, 2, 20, 20)})
        build()
        draw_squares(photos / "a.png", {"yellow": (5, 5, 25, 25)}, size=(90, 70))
        shutil.copy(photos / "b.png", photos / "copy.png")
        (photos / "empty.png").write_bytes(b"")
        about = Path(folder) / "about.csv"
        about.write_text(
            "path,id,price,bought,sold\nphotos/a.png,first,2.5,2024-05-01,true\n"
            "photos/b.png,second,3,2024-06-01,false\n",
            encoding="utf-8",
        )
        build(about)
        connection = sqlite3.connect(index / "catalog.sqlite")
        with connection:
            for table in ("images", "skipped", "image_ids", "metadata"):
                moved = f"UPDATE {table} SET path = replace(path, ?, '/photos/')"
                connection.execute(moved, (f"{photos}/",))
        connection.execute("VACUUM")
        connection.close()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(index.rglob("*")):
                if path.is_file() and not path.name.startswith("."):
                    archive.write(path, path.relative_to(index))


if __name__ == "__main__":
    FIXTURES.mkdir(exist_ok=True)
    target = FIXTURES / f"index-v{FORMAT_VERSION}.zip"
    if target.exists():
        sys.exit(f"{target} exists and must not be replaced")
    make(target)
