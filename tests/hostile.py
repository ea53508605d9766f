"""Indexes as an attacker would write them: every case changes one file of a sound index.

    OMP_NUM_THREADS=1 python tests/hostile.py --group catalog

Each case is used in a child process of its own (query, ask, info, verify, …), which may run
for 5 seconds and take 1 GiB. The result is printed as JSON lines: the case, and for each use what
it ended with. (FAISS's threads do not survive a fork, hence the variable.)
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import stat
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
from fakes import ColorEncoder, SquareDetector, decode_here, draw_squares
from safetensors import safe_open
from safetensors.numpy import save_file

import retrieval_grounding as rg
from retrieval_grounding.matching.config import MATCHER_FORMAT, MatcherConfig
from retrieval_grounding.matching.networks import make_model
from retrieval_grounding.matching.trained import TrainedMatcher
from retrieval_grounding.storage.files import file_checksum
from retrieval_grounding.storage.vectors.faiss_index import FaissIndex, import_faiss

SECONDS = 5
WAITING_SECONDS = 60
MEMORY = 1 << 30
USES = ("query", "ask", "info", "verify", "remove", "build")
OPTIONS = rg.BuildOptions(batch_images=2, shard_images=2, workers=1, progress=False)
MODELS = {"detector": SquareDetector(), "clip": ColorEncoder()}
FACTS = """path,id,price,shop,seen,sold
photos/0.png,first,3,a shop,2024-05-01,true
photos/1.png,second,19,another shop,2024-05-02,false
photos/2.png,third,40,a shop,2024-06-01,true
"""
QUERIES = (
    rg.Query("red", filters=rg.Filters(where="price < 20 and shop like 'a%'")),
    rg.Query("red", filters=rg.Filters(where="not (sold = true or seen = '2024-05')")),
    rg.Query("red", filters=rg.Filters(since="2020", until="2100", where="camera is null")),
    rg.Query("red", filters=rg.Filters(where="id != 'first' and gps = false and date > '2000'")),
    rg.Query("red", unique="bursts", diverse=True),
)

Change = Callable[[Path, Path], object]
"""Changes the index (first folder); the second folder is outside of it."""


# What the cases are made of


def execute(index: Path, *statements: str) -> None:
    connection = sqlite3.connect(index / "catalog.sqlite")
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def sql(*statements: str) -> Change:
    return lambda index, _: execute(index, *statements)


def one_path(expression: str) -> Change:
    return sql(f"UPDATE images SET path = {expression} WHERE path LIKE '%0.png'")


def setting(key: str, text: str) -> Change:
    def change(index: Path, _: Path) -> None:
        connection = sqlite3.connect(index / "catalog.sqlite")
        with connection:
            connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, text))
        connection.close()

    return change


def vectors_setting(**changes: object) -> Change:
    def change(index: Path, outside: Path) -> None:
        connection = sqlite3.connect(index / "catalog.sqlite")
        [(text,)] = connection.execute("SELECT value FROM settings WHERE key = 'vectors'")
        connection.close()
        setting("vectors", json.dumps(json.loads(text) | changes))(index, outside)

    return change


def vectors_of(index: Path) -> Path:
    [path] = index.glob("vectors*.faiss")
    return path


def photos_say(column: str, expression: str) -> Change:
    return sql(f"UPDATE photos SET {column} = {expression}")


def facts_say(table: str, column: str, expression: str, name: str = "price") -> Change:
    """Change what is said about one image, in a table of ids or metadata."""
    which = f" AND name = '{name}'" if table == "metadata" else ""
    return sql(f"UPDATE {table} SET {column} = {expression} WHERE path LIKE '%0.png'{which}")


def replaced_by(name: str, kind: str) -> Change:
    """Put a link or a special file in the place of a file."""

    def change(index: Path, outside: Path) -> None:
        path = vectors_of(index) if name == "vectors" else index / name
        if kind == "link":
            if path.exists():
                shutil.move(path, outside / "target")
            else:
                (outside / "target").write_bytes(b"somebody's file")
            path.symlink_to(outside / "target")
            return
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "socket":
            here = Path.cwd()
            os.chdir(path.parent)  # the path of a socket must be short
            socket.socket(socket.AF_UNIX).bind(path.name)
            os.chdir(here)
        else:
            path.symlink_to({"dangling": outside / "new", "device": "/dev/zero"}[kind])

    return change


def bytes_of(name: str, data: bytes) -> Change:
    return lambda index, _: (index / name).write_bytes(data)


def rebuilt_table(name: str, statement: str) -> Change:
    """Replace a table by something else that answers the same queries."""

    def change(index: Path, _: Path) -> None:
        execute(index, f"ALTER TABLE {name} RENAME TO other", statement.format(other="other"))

    return change


def written_schema(statement: str) -> Change:
    def change(index: Path, _: Path) -> None:
        connection = sqlite3.connect(index / "catalog.sqlite")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(statement)
        connection.commit()
        connection.close()

    return change


def bomb(depth: int) -> Change:
    """Let the pages of a table point to the same page many times, so that it never ends."""

    def change(index: Path, _: Path) -> None:
        path = index / "catalog.sqlite"
        connection = sqlite3.connect(path)
        [(root,)] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'images'")
        connection.close()
        data = bytearray(path.read_bytes())
        size = int.from_bytes(data[16:18], "big")
        pages = len(data) // size

        def interior(child: int) -> bytes:
            count = 400
            cells = b"".join(struct.pack(">IB", child, 1) for _ in range(count))
            start = size - len(cells)
            header = struct.pack(">BHHHBI", 5, 0, count, start, 0, child)
            pointers = b"".join(struct.pack(">H", start + 5 * n) for n in range(count))
            return (header + pointers).ljust(start, b"\0") + cells

        at = slice((root - 1) * size, root * size)
        leaf = bytes(data[at])
        data += leaf
        for level in range(depth):
            data += interior(pages + 1 + level)
        data[at] = interior(pages + 1 + depth if depth else root)
        data[28:32] = (len(data) // size).to_bytes(4, "big")
        path.write_bytes(data)

    return change


def journal(records: bytes, tail: bytes = b"", count: int = 0) -> bytes:
    header = bytes.fromhex("d9d505f920a163d7") + struct.pack(">IIIII", count, 0, 100, 512, 4096)
    return header.ljust(512, b"\0") + records + tail


def super_journal_tail(victim: Path) -> bytes:
    name = os.fsencode(victim)
    page = (1 << 30) // 4096 + 1
    checksum = sum(name) & 0xFFFFFFFF
    return (
        struct.pack(">I", page)
        + name
        + struct.pack(">II", len(name), checksum)
        + bytes.fromhex("d9d505f920a163d7")
    )


def super_journal(index: Path, outside: Path) -> None:
    data = journal(b"", super_journal_tail(outside / "precious.txt"))
    (index / "catalog.sqlite-journal").write_bytes(data)


def journal_into_wal(index: Path, _: Path) -> None:
    page = bytearray((index / "catalog.sqlite").read_bytes()[:4096])
    page[18:20] = b"\2\2"
    checksum = sum(page[at] for at in range(4096 - 200, 0, -200)) & 0xFFFFFFFF
    record = struct.pack(">I", 1) + page + struct.pack(">I", checksum)
    data = bytearray(journal(record, count=1))
    pages = (index / "catalog.sqlite").stat().st_size // 4096
    data[16:20] = struct.pack(">I", pages)
    (index / "catalog.sqlite-journal").write_bytes(data)


def wal_mode(index: Path, _: Path) -> None:
    with (index / "catalog.sqlite").open("r+b") as file:
        file.seek(18)
        file.write(b"\2\2")


def cut(name: str, length: int) -> Change:
    return lambda index, _: os.truncate(index / name, length)


def seal(index: Path) -> None:
    """Make the catalog agree with the bytes of the first shard."""
    checksum = file_checksum(index / SHARD)
    execute(index, f"UPDATE shards SET checksum = '{checksum}' WHERE id = 1")


SHARD = "shards/000001.h5"


def values(name: str, rows: object, value: object) -> Change:
    """Change values in the first shard; all checksums of files agree."""

    def change(index: Path, _: Path) -> None:
        with h5py.File(index / SHARD, "r+") as file:
            file[name][rows] = value
        vectors_of(index).unlink()
        seal(index)

    return change


def dataset(name: str, make: Callable[[h5py.File, np.ndarray, Path], object]) -> Change:
    """Replace a dataset of the first shard by what `make` makes."""

    def change(index: Path, outside: Path) -> None:
        with h5py.File(index / SHARD, "r+") as file:
            before = file[name][:]
            del file[name]
            make(file, before, outside)
        seal(index)

    return change


def made(name: str, dtype: object = None, **options: object) -> Change:
    return dataset(
        name,
        lambda file, before, _: file.create_dataset(
            name, data=before.astype(dtype or before.dtype), **options
        ),
    )


def of_shape(name: str, shape: tuple[int, ...], dtype: str, **options: object) -> Change:
    return dataset(name, lambda file, *_: file.create_dataset(name, shape, dtype, **options))


def attribute(name: str, value: object) -> Change:
    def change(index: Path, _: Path) -> None:
        with h5py.File(index / SHARD, "r+") as file:
            file.attrs[name] = value
        seal(index)

    return change


def external(file: h5py.File, before: np.ndarray, outside: Path) -> None:
    place = [(os.fsencode(outside / "pipe"), 0, before.nbytes)]
    file.create_dataset("boxes", before.shape, before.dtype, external=place)


def virtual(file: h5py.File, before: np.ndarray, outside: Path) -> None:
    layout = h5py.VirtualLayout(before.shape, before.dtype)
    layout[:] = h5py.VirtualSource(outside / "pipe", "boxes", before.shape)
    file.create_virtual_dataset("boxes", layout)


def swapped(name: str) -> Change:
    """Let the shard of a link look right."""

    def change(index: Path, outside: Path) -> None:
        with h5py.File(index / SHARD, "r+") as file:
            before = file[name][:]
            del file[name]
            with h5py.File(outside / "other.h5", "w") as other:
                other[name] = before
            file[name] = h5py.ExternalLink(outside / "other.h5", name)
        seal(index)

    return change


def faiss(data: Callable[[bytes], bytes], **metadata: object) -> Change:
    """Change the vector index; the checksum in the catalog agrees."""

    def change(index: Path, outside: Path) -> None:
        path = vectors_of(index)
        path.write_bytes(data(path.read_bytes()))
        vectors_setting(checksum=file_checksum(path), **metadata)(index, outside)

    return change


def claim_half_a_terabyte(data: bytes) -> bytes:
    """Let the first array, which holds the codes, claim a length that no file has."""
    changed = bytearray(data)
    for at in range(len(data) - 8):
        (length,) = struct.unpack_from("<Q", data, at)
        if 16 <= length <= len(data) and at > 60:
            struct.pack_into("<Q", changed, at, 1 << 39)
            return bytes(changed)
    raise AssertionError("no length found")


def faiss_rows(make: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Change:
    def change(index: Path, outside: Path) -> None:
        path = vectors_of(index)
        old = FaissIndex.load("flat", path, 4)
        rows, ids = make(old.embeddings(0, len(old)).astype(np.float32), old.ids)
        new = FaissIndex.create("flat", 4)
        new.add(rows, ids)
        new.save(path)
        vectors_setting(checksum=file_checksum(path))(index, outside)

    return change


def matcher(description: Callable[[dict], object] = dict, weight: float | None = None) -> Change:
    """Add a matcher whose description or weights are changed."""

    def change(index: Path, _: Path) -> None:
        path = index / "matcher.safetensors"
        config = MatcherConfig("residual", 4, 2, 8)
        network = make_model(config).eval()
        TrainedMatcher(network, config, ["red", "blue"], ColorEncoder.fingerprint).save(path)
        with safe_open(path, "np") as file:
            text = file.metadata()["matcher"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if weight is not None:
            tensors["bias"] = np.array(weight, np.float16)
        changed = description(json.loads(text))
        text = changed if isinstance(changed, str) else json.dumps(changed)
        save_file(tensors, path, {"matcher": text})

    return change


def config(**changes: object) -> Change:
    return matcher(lambda d: d | {"config": d["config"] | changes})


def described(**changes: object) -> Change:
    return matcher(lambda d: d | changes)


DEEP = "[" * 200_000 + "]" * 200_000
HUGE = "9" * 20_000
SPECIAL = ("link", "dangling", "device", "fifo", "folder", "socket")

CASES: dict[str, dict[str, Change]] = {
    "catalog": {
        **{f"catalog is a {kind}": replaced_by("catalog.sqlite", kind) for kind in SPECIAL},
        **{f"journal is a {k}": replaced_by("catalog.sqlite-journal", k) for k in SPECIAL},
        "catalog is empty": bytes_of("catalog.sqlite", b""),
        "catalog is text": bytes_of("catalog.sqlite", b"select *" * 999),
        "catalog is cut": cut("catalog.sqlite", 9000),
        "journal names a super-journal": super_journal,
        "journal brings in a write-ahead log": journal_into_wal,
        "journal is huge": lambda index, _: (
            bytes_of("catalog.sqlite-journal", journal(b""))(index, _),
            os.truncate(index / "catalog.sqlite-journal", 1 << 40),
        ),
        "catalog has a write-ahead log's mode": wal_mode,
        "a write-ahead log is beside": bytes_of("catalog.sqlite-wal", b"x" * 5000),
        "a write-ahead log's index is beside": bytes_of("catalog.sqlite-shm", b"x" * 40_000),
        "a write-ahead log is a link": replaced_by("catalog.sqlite-wal", "dangling"),
        "images are a view": rebuilt_table("images", "CREATE VIEW images AS SELECT * FROM {other}"),
        "settings are a view": rebuilt_table(
            "settings", "CREATE VIEW settings AS SELECT * FROM {other}"
        ),
        "settings are an endless view": rebuilt_table(
            "settings",
            "CREATE VIEW settings AS WITH RECURSIVE n (key, value) AS (SELECT 'format_version', "
            "'1' UNION ALL SELECT key, value FROM n) SELECT * FROM n",
        ),
        "a trigger deletes": sql(
            "CREATE TRIGGER t AFTER INSERT ON images BEGIN DELETE FROM shards; END"
        ),
        "a generated column": sql("ALTER TABLE images ADD COLUMN g AS (length(path))"),
        "an index on an expression": sql("CREATE INDEX x ON images (length(path))"),
        "a virtual table": written_schema(
            "INSERT INTO sqlite_master VALUES ('table', 'v', 'v', 0, "
            "'CREATE VIRTUAL TABLE v USING fts5(x)')"
        ),
        "a further table": sql("CREATE TABLE t (x)"),
        "a table with a default that is a call": written_schema(
            "UPDATE sqlite_master SET sql = replace(sql, 'size INTEGER NOT NULL', "
            "'size INTEGER NOT NULL DEFAULT (randomblob(9))') WHERE name = 'images'"
        ),
        "a table is gone": sql("DROP TABLE skipped"),
        "pages point to the same page": bomb(8),
        "a page points to itself": bomb(0),
        "a long setting": setting("preset", json.dumps("x" * 5_000_000)),
        "a long name": setting("clip", json.dumps("x" * 100_000)),
        "a deeply nested setting": setting("vectors", DEEP),
        "a huge generation": setting("generation", HUGE),
        "the last generation": setting("generation", str((1 << 63) - 1)),
        "a negative generation": setting("generation", "-5"),
        "generation is text": setting("generation", '"5"'),
        "generation is infinite": setting("generation", "1e999"),
        "a huge dimension": setting("dimension", "1000000000"),
        "dimension is a list": setting("dimension", "[4]"),
        "format 0": setting("format_version", "0"),
        "format -7": setting("format_version", "-7"),
        "format true": setting("format_version", "true"),
        "a newer format with other tables": lambda index, outside: (
            sql("CREATE TABLE more (x)")(index, outside),
            setting("format_version", "99")(index, outside),
        ),
        "NaN in the calibration": setting("cosine_calibration", '{"slope": NaN, "intercept": 0}'),
        "text in the calibration": setting("cosine_calibration", '{"slope": "a", "intercept": 0}'),
        "infinity in the calibration": setting(
            "cosine_calibration", '{"slope": 1e999, "intercept": 0}'
        ),
        "the fingerprint is a list": setting("encoder_fingerprint", "[1, 2]"),
        "the fingerprint is missing": sql("DELETE FROM settings WHERE key LIKE '%fingerprint'"),
        "the detector is a list": setting("detector", "[]"),
        "text in the detector's settings": setting("detector_settings", '{"iou": "x"}'),
        "text for the detector's groups": setting("detector_settings", '{"groups": "x"}'),
        "a huge size in the detector's settings": setting(
            "detector_settings", '{"image_size": 1000000000000}'
        ),
        "settings hold bytes": sql("UPDATE settings SET value = x'00ff' WHERE key = 'dimension'"),
        "vectors are a list": setting("vectors", "[1, 2, 3]"),
        "vectors cover a million shards": vectors_setting(shards=list(range(1, 300_000))),
        "vectors are searched without end": vectors_setting(
            kind="hnsw",
            tuning={
                "effort": 1 << 62,
                "per_image": 1 << 62,
                "recall": 1,
                "phrases": 1,
                "regions": 1,
                "trained_regions": 1,
            },
        ),
        "a path has a zero byte": one_path("'/a' || char(0) || 'b.png'"),
        "a path is not UTF-8": one_path("CAST(x'2fff' AS TEXT)"),
        "a path is bytes": one_path("x'00'"),
        "a path has control characters": one_path(r"'/a' || char(10, 27, 8, 7) || '[31m.png'"),
        "a long path": one_path("path || printf('%.*c', 3000000, 'x')"),
        "images are 2e9 wide": sql("UPDATE shard_rows SET width = 2000000000"),
        "images are -1 high": sql("UPDATE shard_rows SET height = -1"),
        "a row is far away": sql("UPDATE images SET row = 9223372036854775807 WHERE row = 1"),
        "a shard is outside": sql(
            "UPDATE shards SET file = '../../outside/precious.txt' WHERE id = 1"
        ),
        "a shard is anywhere": sql("UPDATE shards SET file = '/etc/passwd' WHERE id = 1"),
        "a shard is its folder": sql("UPDATE shards SET file = '.' WHERE id = 1"),
        "a shard's name has a zero byte": sql(
            "UPDATE shards SET file = 'a' || char(0) || '.h5' WHERE id = 1"
        ),
        "a shard's number is huge": sql("UPDATE shards SET id = 1 << 40 WHERE id = 1"),
        "a shard's number is negative": sql("UPDATE shards SET id = -3 WHERE id = 1"),
        "no shard number is left": sql("UPDATE sqlite_sequence SET seq = 9223372036854775807"),
        "sums overflow": sql("UPDATE shards SET regions = 9223372036854775807"),
        "a row claims all regions": sql("UPDATE shard_rows SET regions = 1 << 40"),
    },
    "metadata": {
        "dates are nonsense": photos_say("taken", "'somewhen'"),
        "dates do not exist": photos_say("taken", "'2024-02-30T00:00:00'"),
        "dates are long": photos_say("taken", "printf('%.*c', 3000000, '9')"),
        "dates are bytes": photos_say("taken", "x'00ff'"),
        "dates have control characters": photos_say("taken", "'2024-05' || char(0, 10, 27)"),
        "cameras are long": photos_say("camera", "printf('%.*c', 3000000, 'x')"),
        "cameras have control characters": photos_say("camera", r"char(27) || '[31m' || char(7)"),
        "places are text": photos_say("gps", "'here'"),
        "places are huge": photos_say("gps", "9223372036854775807"),
        "looks are no number": photos_say("looks", "'no number'"),
        "looks are long": photos_say("looks", "printf('%.*c', 3000000, 'f')"),
        "looks are negative": photos_say("looks", "'-1'"),
        "looks are of other digits": photos_say("looks", "'٣٣٣٣'"),
        "looks are bytes": photos_say("looks", "x'ff'"),
        "nothing is said of photographs": sql("DELETE FROM photos"),
        "other photographs are described": sql(
            "INSERT INTO photos VALUES (printf('%064d', 1), '', '', 0, '')",
            "INSERT INTO photos VALUES ('../../x' || char(10), '', '', 0, '')",
        ),
        "an id is long": facts_say("image_ids", "id", "printf('%.*c', 3000000, 'x')"),
        "an id has control characters": facts_say("image_ids", "id", "'a' || char(10, 27, 8)"),
        "an id has a zero byte": facts_say("image_ids", "id", "'a' || char(0) || 'b'"),
        "an id is bytes": facts_say("image_ids", "id", "x'ff'"),
        "an id is of no image": facts_say("image_ids", "path", "'/nowhere.png'"),
        "a column is of an unknown type": sql("UPDATE columns SET type = 'blob'"),
        "a column is of a different type": sql("UPDATE columns SET type = 'date'"),
        "a column is called like one that every index has": sql(
            "INSERT INTO columns VALUES ('path', 'integer'), ('gps', 'text'), ('date', 'number')"
        ),
        "a column has a hostile name": sql(
            "INSERT INTO columns VALUES ('x'' OR 1 --`\"' || char(10, 27), 'text')"
        ),
        "a column has a long name": sql(
            "INSERT INTO columns VALUES (printf('%.*c', 3000000, 'x'), 'text')"
        ),
        "there are many columns": sql(
            "INSERT INTO columns WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
            "WHERE i < 100000) SELECT 'column ' || i, 'text' FROM n"
        ),
        "a value is of a column that is not there": sql("DELETE FROM columns WHERE name = 'price'"),
        "a value is of an image that is not there": facts_say("metadata", "path", "'/nowhere.png'"),
        "a number is text": facts_say("metadata", "value", "'many'"),
        "a number is bytes": facts_say("metadata", "value", "x'ff'"),
        "a number is infinite": facts_say("metadata", "value", "9e999"),
        "a number is a fraction": facts_say("metadata", "value", "0.5"),
        "a text is long": facts_say("metadata", "value", "printf('%.*c', 3000000, 'x')", "shop"),
        "a text has control characters": facts_say(
            "metadata", "value", "char(10, 27, 8) || '[31m'", "shop"
        ),
        "a text has a zero byte": facts_say("metadata", "value", "char(0)", "shop"),
        "a date is nonsense": facts_say("metadata", "value", "'soon'", "seen"),
        "a truth is 7": facts_say("metadata", "value", "7", "sold"),
        "metadata are a view": rebuilt_table(
            "metadata", "CREATE VIEW metadata AS SELECT * FROM {other}"
        ),
        "ids are gone": sql("DROP TABLE image_ids"),
    },
    "shards": {
        **{f"shard is a {kind}": replaced_by(SHARD, kind) for kind in SPECIAL},
        "shards are a link": replaced_by("shards", "link"),
        "shards are a pipe": replaced_by("shards", "fifo"),
        "shard is empty": bytes_of(SHARD, b""),
        "shard is cut": cut(SHARD, 3000),
        "boxes are stored in a pipe": dataset("boxes", external),
        "boxes are shown from a pipe": dataset("boxes", virtual),
        "boxes are in a different file": swapped("boxes"),
        "boxes are a soft link": dataset(
            "boxes",
            lambda file, before, _: file.update({"boxes": h5py.SoftLink("/embeddings")}),
        ),
        "boxes are compressed": made("boxes", compression="gzip"),
        "boxes are in chunks": made("boxes", chunks=(1, 4)),
        "boxes are doubles": made("boxes", "f8"),
        "boxes have the other byte order": made("boxes", ">f4"),
        "boxes are a folder": dataset("boxes", lambda file, *_: file.create_group("boxes")),
        "boxes are gone": dataset("boxes", lambda *_: None),
        "boxes are never written": of_shape("boxes", (1 << 40, 4), "f4"),
        "label names claim 4 GB": of_shape(
            "label_names", (1 << 26,), "S64", compression="gzip", chunks=(1 << 20,)
        ),
        "label names are wide": of_shape("label_names", (3,), "S1000000", chunks=(1,)),
        "label names are in a heap": made("label_names", h5py.string_dtype()),
        "label names are not UTF-8": values("label_names", 0, b"\xff\xfe"),
        "offsets claim much": of_shape(
            "image_offsets", (1 << 30,), "i8", compression="gzip", chunks=(1 << 20,)
        ),
        "a further dataset": lambda index, _: (
            h5py.File(index / SHARD, "r+").create_dataset("more", data=1).file.close(),
            seal(index),
        ),
        "an attribute is a list": attribute("dimension", np.arange(1000)),
        "an attribute is text": attribute("format_version", "1"),
        "an attribute is in a heap": attribute("detector", "squares 1"),
        "an attribute is long": attribute("detector", np.bytes_(b"x" * 60_000)),
        "a further attribute": attribute("more", 1),
        "the dimension differs": attribute("dimension", 5),
        "a newer format of a shard": attribute("format_version", 99),
        "boxes are not a number": values("boxes", 0, np.nan),
        "boxes are infinite": values("boxes", 0, np.inf),
        "boxes are reversed": values("boxes", 0, [50, 40, 10, 10]),
        "boxes are 2e9": values("boxes", 0, [0, 0, 2e9, 2e9]),
        "boxes are negative": values("boxes", 0, [-5, -5, 9, 9]),
        "scores are not a number": values("scores", 0, np.nan),
        "embeddings are not a number": values("embeddings", slice(None), np.nan),
        "embeddings are infinite": values("embeddings", slice(None), np.inf),
        "label embeddings are not a number": values("label_embeddings", 0, np.nan),
        "labels have no name": values("labels", 0, 99),
        "labels are negative": values("labels", 0, -1),
        "sizes are 2e9": values("image_sizes", 0, 2_000_000_000),
        "sizes are 0": values("image_sizes", 0, 0),
        "offsets are reversed": values("image_offsets", 1, 99),
        "offsets are negative": values("image_offsets", 0, -1),
    },
    "others": {
        **{f"vectors are a {kind}": replaced_by("vectors", kind) for kind in SPECIAL},
        **{f"matcher is a {kind}": replaced_by("matcher.safetensors", kind) for kind in SPECIAL},
        **{f"lock is a {kind}": replaced_by(".writer.lock", kind) for kind in SPECIAL},
        **{f"claim is a {kind}": replaced_by(".writer.json", kind) for kind in SPECIAL},
        "vectors are empty": faiss(lambda _: b""),
        "vectors are noise": faiss(lambda _: np.random.default_rng(0).bytes(999)),
        "vectors are cut": faiss(lambda data: data[: len(data) // 2]),
        "vectors claim half a terabyte": faiss(claim_half_a_terabyte),
        "vectors are of a different kind": faiss(lambda data: data, kind="ivf", tuning=None),
        "vectors are of other regions": faiss_rows(lambda rows, ids: (rows, ids + (5 << 32))),
        "vectors are of rows that are not there": faiss_rows(lambda rows, ids: (rows, ids + 999)),
        "vectors are not numbers": faiss_rows(lambda rows, ids: (rows * np.nan, ids)),
        "matcher is sound": matcher(),
        "matcher is empty": bytes_of("matcher.safetensors", b""),
        "matcher is noise": bytes_of("matcher.safetensors", b"\xff" * 1000),
        "matcher is wide": config(width=10**9),
        "matcher is of odd width": config(width=7),
        "matcher is of negative width": config(width=-8),
        "matcher is of text width": config(width="8"),
        "matcher knows 10**12 words": config(words=10**12),
        "matcher is of a huge dimension": config(dimension=1 << 16, width=1 << 12),
        "matcher is of an unknown kind": config(kind="os.system"),
        "matcher has more settings": config(more=1),
        "matcher's format is text": described(format="2"),
        "matcher's format is huge": matcher(
            lambda described: json.dumps(described).replace(f't": {MATCHER_FORMAT}', f't": {HUGE}')
        ),
        "matcher's words are numbers": described(vocabulary=[1, 2]),
        "matcher's words are text": described(vocabulary="ab"),
        "matcher's words are too few": described(vocabulary=["a"]),
        "matcher's calibration is text": described(calibration={"slope": "1", "intercept": 0}),
        "matcher's calibration is NaN": described(calibration={"slope": np.nan, "intercept": 0}),
        "matcher's calibration is a list": described(calibration=[1, 2]),
        "matcher's encoder is a number": described(encoder=5),
        "matcher's encoder is of numbers": described(
            encoder={"name": 1, "weights": 2, "preprocessing": 3}
        ),
        "matcher's recipe is text": described(recipe="cosine"),
        "matcher's recipe has a huge weight": described(
            recipe={"weight": 1e300, "spreads": [1, 1], "anchor_spreads": [1, 1]}
        ),
        "matcher's recipe names a file": described(
            recipe={"anchor": "../x", "spreads": [1, 1], "anchor_spreads": [1, 1]}
        ),
        "matcher in use is a path": setting("matcher_in_use", '"../../../etc/passwd"'),
        "matcher in use is a number": setting("matcher_in_use", "7"),
        "matcher in use is not there": setting("matcher_in_use", '"gone"'),
        "matcher is nested deeply": matcher(lambda _: DEEP),
        "matcher's weights are not a number": matcher(weight=np.nan),
        "matcher's weights are infinite": matcher(weight=np.inf),
    },
    "thumbs": {
        **{f"feedback is a {kind}": replaced_by("feedback.jsonl", kind) for kind in SPECIAL},
        "feedback is huge": lambda index, _: (
            bytes_of("feedback.jsonl", b"")(index, _),
            os.truncate(index / "feedback.jsonl", 1 << 40),
        ),
        "feedback is nested": bytes_of("feedback.jsonl", DEEP.encode() + b"\n"),
        "feedback is many lines": bytes_of("feedback.jsonl", b"\n" * (1 << 23)),
        "feedback has a huge number": bytes_of(
            "feedback.jsonl", b'{"id":' + HUGE.encode() + b"}\n"
        ),
    },
}


# How they are used


def listing(folder: Path) -> str:
    """Return a hash of everything in a folder: names, kinds, modes, times and contents."""
    entries = []
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = b""
        if path.is_symlink():
            content = os.fsencode(path.readlink())
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        digest = hashlib.blake2b(content).hexdigest()
        entries.append(f"{path} {status.st_mode} {status.st_size} {status.st_mtime_ns} {digest}")
    return "\n".join(entries)


def use(index: Path, how: str, photos: Path, new: Path) -> object:
    """Use the index; return what it answers, as plain values."""
    if how == "build":
        built = rg.build(new, index, options=OPTIONS, **MODELS)
        return built.build_report.added
    opened = rg.Index.open(index, encoder=ColorEncoder())
    if how == "query":
        found = opened.query(["red", "blue"], top=5)
        return [[(Path(h.image).name, h.box, round(h.score, 3)) for h in hits] for hits in found]
    if how == "ask":
        found = opened.query(QUERIES, top=5)
        told = [[(Path(h.image).name, h.id, h.metadata, len(h.similar)) for h in f] for f in found]
        json.dumps(told, allow_nan=False)
        return told
    if how == "info":
        facts = opened.info()
        json.dumps(facts, allow_nan=False)
        return [facts["images"], facts["regions"]]
    if how == "verify":
        return sorted({fault.where for fault in opened.verify(options=OPTIONS).faults})
    return opened.remove(photos / "0.png")


def in_child(work: Callable[[], Iterator[tuple[str, object]]], limit: bool = True) -> list[object]:
    """Return what `work` yields in a child process that has little time and memory."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        if limit:
            # Both end the process, whatever it is doing. Computers that run tests are busy, so the
            # limit is for time in which the process runs; the alarm is for waiting without end.
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            signal.alarm(WAITING_SECONDS)
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            size = pages * resource.getpagesize() + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (size, size))
        try:
            for item in work():
                os.write(send, json.dumps(item).encode() + b"\n")
        except BaseException:
            os.write(send, json.dumps(("bug", traceback.format_exc())).encode() + b"\n")
        os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        items = [json.loads(line) for line in pipe]
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        items.append(("bug", f"ended by signal {os.WTERMSIG(status)}"))
    return items


def import_heavy_modules() -> None:
    """Import what cases would import, once; nothing of it may start threads."""
    for name in ("builder", "index", "matching.trained", "matching.pseudo.generate"):
        importlib.import_module(f"retrieval_grounding.{name}")
    import_faiss()


def run(folder: Path, group: str, names: list[str]) -> Iterator[dict[str, object]]:
    """Yield for each case its ends, its time, and what it changed outside of the index."""
    folder = folder.resolve()
    photos, new, sound = folder / "photos", folder / "new", folder / "sound"
    photos.mkdir()
    new.mkdir()
    for number in range(4):
        draw_squares(photos / f"{number}.png", {"red": (0, 0, 9 + number, 9)})
    draw_squares(new / "new.png", {"blue": (0, 0, 30, 9)})

    def prepare() -> Iterator[tuple[str, object]]:
        (folder / "facts.csv").write_text(FACTS)
        rg.build(photos, sound, metadata=folder / "facts.csv", options=OPTIONS, **MODELS)
        yield "done", True

    import_heavy_modules()
    decode_here()  # what is hostile is the index, not the images
    assert in_child(prepare, limit=False) == [["done", True]]
    for name in names:
        work = folder / "work"
        index, outside = work / "index", work / "outside"
        shutil.copytree(sound, index)
        outside.mkdir()
        (outside / "precious.txt").write_text("precious")
        os.mkfifo(outside / "pipe")

        def case(name: str = name, index: Path = index, outside: Path = outside) -> Iterator:
            if name != "sound":
                CASES[group][name](index, outside)
            before = listing(outside), listing(photos), listing(new)
            yield "begin", time.time()
            for how in USES:
                try:
                    yield how, ("answer", use(index, how, photos, new))
                except rg.GroundingError as error:
                    yield how, (type(error).__name__, str(error))
            yield "untouched", before == (listing(outside), listing(photos), listing(new))

        started = time.perf_counter()
        items = in_child(case)
        yield {"case": name, "seconds": time.perf_counter() - started, **dict(items)}
        shutil.rmtree(work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--group", choices=CASES, required=True)
    parser.add_argument("--case")
    arguments = parser.parse_args()
    names = ["sound", *([arguments.case] if arguments.case else CASES[arguments.group])]
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        for result in run(Path(folder), arguments.group, names):
            sys.stdout.write(json.dumps(result) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
