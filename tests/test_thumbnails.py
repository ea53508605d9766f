"""Thumbnails that an index keeps on request, to show what has no file (inputs, point 8)."""

from __future__ import annotations

import io

import numpy as np
import pytest
from fakes import SquareDetector, draw_squares
from PIL import Image

import retrieval_grounding as rg
from retrieval_grounding.storage.catalog import Catalog
from retrieval_grounding.storage.shards import ShardReader

KEEP = rg.BuildOptions(progress=False, thumbnails=True, shard_images=8)


def large(color: tuple[int, int, int]) -> Image.Image:
    image = Image.new("RGB", (1280, 960), (128, 128, 128))
    image.paste(color, (200, 400, 600, 800))
    return image


@pytest.fixture
def index(photos, tmp_path, models):
    with rg.build(photos, tmp_path / "index", options=KEEP, **models) as opened:
        yield opened


def test_what_has_no_file_is_shown(index, tmp_path):
    report = index.add(np.asarray(large((220, 20, 20))), detector=SquareDetector())
    assert report.added == 1
    hit = next(hit for hit in index.query("red") if hit.image.startswith("content:"))
    assert hit.box == (200, 400, 600, 800)
    picture, shown = index.picture(hit)
    assert picture.size == (640, 480)
    assert shown.box == (100, 200, 300, 400)
    assert picture.getpixel((200, 300))[0] > 200
    assert max(picture.getpixel((50, 50))) < 140
    page = tmp_path / "page.html"
    rg.render_html([hit], page, picture=index.picture)
    assert "data:image/jpeg" in page.read_text(encoding="utf-8")
    rg.render_html([hit], page)
    assert "missing" in page.read_text(encoding="utf-8").split("</style>")[1]


def test_a_file_that_is_still_there_is_shown_itself(index, photos):
    hit = index.query("green", top=1)[0]
    assert index.picture(hit)[1] == hit
    draw_squares(photos / "b.png", {"blue": (0, 0, 30, 30)})  # changed since it was indexed
    picture, _ = index.picture(hit)
    assert picture.getpixel((45, 25))[1] > 150
    (photos / "b.png").unlink()
    assert index.picture(hit)[0].size == (80, 60)


def test_they_survive_merging_compacting_and_repair(index, photos, models):
    for shade in range(6):
        index.add(large((220, 20, 20 + shade)), detector=SquareDetector())
    index.compact(0.0, 16)
    assert not index.verify().faults
    hits = [hit for hit in index.query("red") if hit.image.startswith("content:")]
    assert len(hits) == 6
    assert {index.picture(hit)[0].size for hit in hits} == {(640, 480)}
    catalog = Catalog(index.directory)
    [(number, file)] = catalog.shard_files().items()
    path = index.directory / "shards" / file
    reader = ShardReader(path, number)
    row = next(r.row for r in catalog.live_rows(number) if r.width == 80)
    thumbnail = reader.thumbnail(row)
    assert Image.open(io.BytesIO(thumbnail)).format == "JPEG"
    data = bytearray(path.read_bytes())
    data[data.index(thumbnail) + len(thumbnail) // 2] ^= 1
    path.write_bytes(data)
    [fault] = index.verify().faults
    assert "1 of 10 images affected" in fault.detail
    report = index.verify(repair=True, detector=models["detector"], clip=models["clip"])
    assert report.embedded == 1
    assert not report.lost
    assert not index.verify().faults
    assert len(index) == 10


def test_without_asking_nothing_is_kept_and_shards_are_as_before(photos, tmp_path, models):
    quiet = rg.BuildOptions(progress=False)
    with rg.build(photos, tmp_path / "index", options=quiet, **models) as index:
        index.add(large((220, 20, 20)), detector=SquareDetector())
        hit = next(hit for hit in index.query("red") if hit.image.startswith("content:"))
        with pytest.raises(rg.ImageError) as caught:
            index.picture(hit)
        assert caught.value.reason == "missing"
        for path in (index.directory / "shards").iterdir():
            assert b"thumbnail" not in path.read_bytes()


def test_a_shard_whose_thumbnails_make_no_sense_is_refused(index):
    file = next((index.directory / "shards").iterdir())
    reader = ShardReader(file, 1)
    ends = np.array([len(reader.thumbnail(row)) for row in range(4)]).cumsum()
    data = file.read_bytes()
    assert data.count(ends.astype("<i8").tobytes()) == 1
    for wrong in (ends * 1000, ends[::-1], ends - ends[0] - 1):
        file.write_bytes(data.replace(ends.astype("<i8").tobytes(), wrong.astype("<i8").tobytes()))
        with pytest.raises(rg.StoreError, match="damaged"):
            ShardReader(file, 1)
