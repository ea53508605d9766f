"""Members of ZIP and tar archives are indexed in place (inputs, point 8)."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fakes import ColorEncoder, SquareDetector, draw_squares
from hypothesis import given, settings
from hypothesis import strategies as st

import retrieval_grounding as rg
from retrieval_grounding.data import archives, reading
from retrieval_grounding.data.archives import open_archive

COLORS = ("red", "green", "blue", "yellow")


def png(color: str, shift: int = 0) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = draw_squares(Path(folder) / "x.png", {color: (5 + shift, 5, 25 + shift, 25)})
        return path.read_bytes()


def pack(path: Path, members: list[tuple[str, bytes]]) -> Path:
    """Write an archive of the kind that its suffix says, with members in this order."""
    if path.suffix == ".tar":
        with tarfile.open(path, "w") as tar:
            for name, data in members:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in members:
                file.writestr(name, data)
    old = time.time() - 100  # a young file is always read again
    os.utime(path, (old, old))
    return path


PHOTOS = [
    ("train/a.png", png("red")), ("./train/b.png", png("green")), ("c.png", png("blue")),
    ("notes.txt", b"x"), ("train/d.svg", b"<svg/>"), ("bad.png", b"no image"),
    ("__MACOSX/._a.png", b"x"), (".hidden.png", png("red", 1)), ("again.png", png("red")),
]  # fmt: skip


@pytest.fixture(params=[".zip", ".tar", ".cbz"])
def archive(tmp_path: Path, request) -> Path:
    return pack(tmp_path / f"shard-000{request.param}", PHOTOS)


@pytest.fixture
def build(tmp_path, models):
    def build(*sources, **options) -> rg.Index:
        return rg.build(
            [str(source) for source in sources],
            tmp_path / "index",
            options=rg.BuildOptions(progress=False, **options),
            **models,
        )

    return build


def inside(index: rg.Index, archive: Path) -> set[str]:
    return {Path(image.path).relative_to(archive).as_posix() for image in index.images()}


def test_members_are_indexed_and_stay_addressable(archive, build, tmp_path):
    index = build(archive)
    report = index.build_report
    assert inside(index, archive) == {"train/a.png", "train/b.png", "c.png", "again.png"}
    assert (report.found, report.added, report.duplicates) == (6, 3, 1)
    assert report.skipped_reasons == {"svg-not-supported": 1, "not-an-image": 1}
    assert Counter(f.reason for f in report.left_out) == {"machine-folder": 1, "hidden": 1}
    assert report.other_files == 1
    [hit] = index.query("green", top=1)
    assert hit.image == str(archive / "train" / "b.png")
    assert not hit.missing
    assert rg.load_image(hit.image, hit.content_hash).size == (80, 60)
    assert rg.ground(hit.image, "green", detector=SquareDetector(), clip=ColorEncoder()).image
    page = tmp_path / "page.html"
    rg.render_html([hit], page)
    source = page.read_text(encoding="utf-8")
    assert "data:image/jpeg" in source
    assert f'href="{archive.as_uri()}"' in source  # nothing opens the member itself
    assert not index.verify().faults
    assert {p.name for p in tmp_path.iterdir()} == {archive.name, "index", "page.html"}


def test_a_second_build_reads_nothing_and_a_changed_archive_is_compared(archive, build):
    build(archive)
    report = build(archive).build_report
    assert (report.unchanged, report.added, report.embedded) == (4, 0, 0)
    kept = [member for member in PHOTOS if member[0] != "c.png"]
    pack(archive, [*kept, ("new.png", png("yellow")), ("again.png", png("blue", 7))])
    os.utime(archive)
    index = build(archive)
    report = index.build_report
    assert report.missing == [str(archive / "c.png")]
    assert (report.unchanged, report.updated, report.added) == (2, 1, 1)
    assert [file.reason for file in report.left_out].count("same-member") == 1
    assert len(build(archive, prune=True)) == 4
    assert index.remove(archive / "train") == 2
    assert index.remove(archive) == 2


def test_members_can_be_named_one_by_one_and_in_lists(archive, build, tmp_path):
    index = build(archive / "c.png")
    assert inside(index, archive) == {"c.png"}
    names = tmp_path / "names.txt"
    names.write_text(f"{archive.name}/train/a.png\n{archive.name}/none.png\n")
    report = build(names).build_report
    assert (report.added, report.skipped_reasons) == (1, {"missing": 1})
    names.write_text(f"{archive.name}\n")
    assert len(build(names)) == 4
    assert rg.find_images(str(archive)) == rg.find_images(names)
    assert build(archive, exclude=("train/",)).build_report.left_out[0].reason == "excluded"


def test_an_archive_that_is_gone_or_damaged_loses_no_image(archive, build, tmp_path):
    build(archive)
    data = archive.read_bytes()
    archive.write_bytes(data[: len(data) // 2])
    report = build(archive, prune=True, allow_empty=True).build_report
    assert {"truncated", "corrupt"} & report.skipped_reasons.keys()
    assert not report.missing
    assert len(report.unreachable) + report.unchanged == 4
    archive.write_bytes(b"garbage")
    report = build(archive, prune=True, allow_empty=True).build_report
    assert report.skipped_reasons == {"not-an-archive": 1}
    assert len(report.unreachable) == 4
    archive.unlink()
    draw_squares(tmp_path / "other.png", {"blue": (0, 0, 5, 5)})
    index = build(tmp_path)
    assert len(index.build_report.missing) == 4
    assert index.query("red", top=1)[0].missing
    assert len(build(tmp_path, prune=True)) == 1


def test_a_moved_member_keeps_its_regions(archive, build, tmp_path):
    build(archive)
    shutil.rmtree(tmp_path / "photos", ignore_errors=True)
    with zipfile.ZipFile(archive) if archive.suffix != ".tar" else tarfile.open(archive) as file:
        file.extract("train/a.png", tmp_path / "photos")
    archive.unlink()
    report = build(tmp_path / "photos").build_report
    assert (report.moved, report.embedded) == (1, 0)


def test_archives_in_a_folder_are_searched_only_if_they_are_named(archive, build, tmp_path):
    with pytest.raises(rg.SourceError, match=r"archives are searched if they are named"):
        build(tmp_path)
    assert len(build(tmp_path / f"*{archive.suffix}")) == 4
    assert len(build(f"{tmp_path}/shard-[0-9]*")) == 4


def test_a_folder_that_is_named_like_an_archive_is_a_folder(build, tmp_path):
    folder = tmp_path / "photos.zip"
    folder.mkdir()
    draw_squares(folder / "a.png", {"red": (0, 0, 9, 9)})
    pack(folder / "b.tar", [("c.png", png("blue"))])
    index = build(folder, folder / "b.tar")
    assert inside(index, folder) == {"a.png", "b.tar/c.png"}
    assert rg.load_image(folder / "b.tar" / "c.png").size == (80, 60)


# Hostile archives


def refused(report: rg.BuildReport) -> dict[str, str]:
    return {Path(file.path).name: file.reason for file in report.skipped}


def test_names_that_lead_out_are_refused_and_shadow_nothing(build, tmp_path):
    victim = draw_squares(tmp_path / "victim.png", {"green": (0, 0, 9, 9)})
    bad = [f"../{victim.name}", f"x/../../{victim.name}", str(victim), "/abs.png", ".."]
    for kind in (".zip", ".tar"):
        path = pack(tmp_path / f"bad{kind}", [(name, png("red")) for name in bad])
        report = build(path, victim).build_report
        assert report.skipped_reasons == {"unsafe-name": 4}, kind
        assert all(str(file.path).startswith(str(path)) for file in report.skipped)
        assert ".." not in {part for file in report.skipped for part in Path(file.path).parts}
        index = build(path, victim)
        assert [image.path for image in index.images()] == [str(victim)]
        assert index.build_report.unchanged + index.build_report.updated == 1


def test_links_and_special_members_are_not_followed(build, tmp_path):
    secret = draw_squares(tmp_path / "secret.png", {"red": (0, 0, 9, 9)})
    path = tmp_path / "links.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (
            ("sym.png", tarfile.SYMTYPE), ("hard.png", tarfile.LNKTYPE),
            ("pipe.png", tarfile.FIFOTYPE), ("device.png", tarfile.CHRTYPE),
            ("sparse.png", tarfile.GNUTYPE_SPARSE),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(secret)
            tar.addfile(info)
    zipped = tmp_path / "links.zip"
    with zipfile.ZipFile(zipped, "w") as file:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, str(secret))
        file.writestr("real.png", png("blue"))
    index = build(path, zipped)
    reasons = refused(index.build_report)
    assert reasons.pop("link.png") == "archive-link"
    assert set(reasons.values()) <= {"archive-link", "not-a-file", "empty"}
    assert len(reasons) == 5
    assert [Path(image.path).name for image in index.images()] == ["real.png"]


def test_bombs_are_refused_before_they_are_unpacked(build, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_BYTES", 20_000_000)
    path = tmp_path / "bombs.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("huge.bmp", bytes(20_000_001))
        file.writestr("liar.png", bytes(10_000_000))
        file.writestr("bzip2.png", png("red"), zipfile.ZIP_BZIP2)
        file.writestr("fine.png", png("red"))
    data = bytearray(path.read_bytes())
    start = data.rindex(b"PK\x01\x02", 0, data.rindex(b"liar.png"))
    data[start + 24 : start + 28] = struct.pack("<I", 1000)  # claims to be small
    path.write_bytes(data)
    tracker = []
    inflate = archives.zlib.decompressobj

    def watched(*arguments):
        unpacker = inflate(*arguments)

        class Watched:
            def decompress(self, packed, limit):
                found = unpacker.decompress(packed, limit)
                tracker.append(len(found))
                return found

        return Watched()

    monkeypatch.setattr(archives.zlib, "decompressobj", watched)
    report = build(path).build_report
    assert refused(report) == {
        "huge.bmp": "too-large", "liar.png": "corrupt", "bzip2.png": "compression-not-supported"
    }  # fmt: skip
    assert report.added == 1
    assert max(tracker) < 2000


def test_encrypted_and_wrong_members_are_named(build, tmp_path):
    path = pack(tmp_path / "x.zip", [("a.png", png("red")), ("b.png", png("blue"))])
    data = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.index(signature) + at
        data[place] |= 1
    second = data.index(b"PK\x03\x04", 10)
    data[second + 40] ^= 0xFF  # in the deflated pixels
    path.write_bytes(data)
    assert refused(build(path).build_report) == {"a.png": "encrypted", "b.png": "corrupt"}


@pytest.mark.parametrize("cut", [512, 600, 1024, 1500, 2000])
def test_a_truncated_tar_keeps_what_comes_before_and_says_so(build, tmp_path, cut):
    path = pack(tmp_path / "cut.tar", [(f"{color}.png", png(color)) for color in COLORS])
    whole = open_archive(str(path)).members
    path.write_bytes(path.read_bytes()[:cut])
    expected = {n for n, m in whole.items() if m.offset + m.size <= cut}
    if not expected and cut < 600:
        assert build(path, allow_empty=True).build_report.skipped
        return
    report = build(path, allow_empty=True).build_report
    assert report.added == len(expected)
    assert "truncated" in report.skipped_reasons
    assert str(path) in {file.path for file in report.skipped}


def test_a_damaged_header_does_not_hide_members_silently(build, tmp_path):
    path = pack(tmp_path / "x.tar", [(f"{color}.png", png(color)) for color in COLORS])
    member = open_archive(str(path)).members["blue.png"]
    data = bytearray(path.read_bytes())
    data[member.offset - 512 + 10] ^= 0xFF
    path.write_bytes(data)
    report = build(path).build_report
    assert report.added == 2
    assert report.skipped_reasons == {"corrupt": 1}
    assert "2 members before that are used" in report.skipped[0].detail


NAMES = st.sampled_from(
    ["a.png", "./a.png", "b/a.png", "b//a.png", "../x.png", "/y.png", "c.JPG", "é.png",
     "e\u0301.png", "t.txt", ".z.png", "@eaDir/q.png",
     "b/.git/x.png", "x.heic", "a.zip", "b\\c.png", "n\nl.png"]
)  # fmt: skip
CONTENTS = st.sampled_from([*COLORS, "garbage", ""])


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.tuples(NAMES, CONTENTS), max_size=8),
    st.sampled_from([".zip", ".tar"]),
    st.one_of(st.none(), st.integers(0, 3000)),
    st.one_of(st.none(), st.tuples(st.integers(0, 3000), st.integers(1, 255))),
)
def test_any_archive_is_indexed_or_reported_and_nothing_is_written(members, kind, cut, flip):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = pack(
            folder / f"x{kind}",
            [(n, png(c) if c in COLORS else c.encode()) for n, c in members],
        )
        data = bytearray(path.read_bytes())
        if flip is not None and flip[0] < len(data):
            data[flip[0]] ^= flip[1]
        path.write_bytes(data[:cut])
        index = rg.build(
            path,
            folder / "index",
            detector=SquareDetector(),
            clip=ColorEncoder(),
            options=rg.BuildOptions(progress=False, workers=1, allow_empty=True),
        )
        report = index.build_report
        ends = [i.path for i in index.images()] + [f.path for f in report.skipped]
        assert len(set(ends)) == len(ends) == report.found
        assert all(end.startswith(str(path)) for end in ends)
        if cut is None and flip is None:
            stored = {n for n, _ in members}
            assert len(ends) + report.other_files + len(report.left_out) >= bool(stored)
        assert {p.name for p in folder.iterdir()} == {path.name, "index"}
        again = rg.build(
            path,
            folder / "index",
            detector=SquareDetector(),
            clip=ColorEncoder(),
            options=rg.BuildOptions(progress=False, workers=1, allow_empty=True),
        ).build_report
        assert (again.found, again.added, again.embedded) == (report.found, 0, 0)
        index.close()


def test_many_members_are_listed_and_read_quickly(tmp_path):
    data = png("red")
    path = pack(tmp_path / "many.tar", [(f"{n:06}.png", data) for n in range(5000)])
    started = time.process_time()
    paths = rg.find_images(path)
    for address in paths[::10]:
        assert np.asarray(rg.load_image(address)).shape == (60, 80, 3)
    assert len(paths) == 5000
    assert time.process_time() - started < 10
