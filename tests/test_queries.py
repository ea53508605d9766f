"""Queries on real index folders: clauses, filters, metadata, examples, groups."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from fakes import ColorEncoder, SquareDetector, draw_squares
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import retrieval_grounding as rg
from retrieval_grounding.core.query.filters import Filters
from retrieval_grounding.data.metadata_file import read_metadata_file
from retrieval_grounding.storage.filters import compile_filters

QUIET = rg.BuildOptions(progress=False, workers=1, shard_images=3)
CALIBRATED = rg.CosineMatcher(rg.Calibration(20.0, -12.0))
MODELS = {"detector": SquareDetector(), "clip": ColorEncoder()}


def names(hits: list[rg.Hit]) -> list[str]:
    return [Path(hit.image).name for hit in hits]


def exif(taken: str, camera: str = "", gps: bool = False) -> Image.Exif:
    found = Image.Exif()
    if camera:
        found[0x010F], found[0x0110] = camera.split()
    found.get_ifd(0x8769)[0x9003] = taken
    if gps:
        found.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 0.0)})
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Six pictures in two folders."""
    root = tmp_path_factory.mktemp("photos")
    (root / "2023").mkdir()
    (root / "2024" / "trip [1]").mkdir(parents=True)
    draw_squares(root / "2023" / "a.png", {"red": (5, 5, 25, 25)})
    draw_squares(root / "2023" / "b.png", {"red": (2, 2, 70, 55), "green": (71, 1, 79, 9)})
    draw_squares(root / "2024" / "c.png", {"red": (5, 5, 25, 25), "blue": (40, 30, 70, 50)})
    draw_squares(root / "2024" / "d.png", {"blue": (5, 5, 25, 25)})
    draw_squares(root / "2024" / "trip [1]" / "e.png", {"yellow": (5, 5, 25, 25)})
    draw_squares(root / "2024" / "trip [1]" / "f.png", {})
    (root / "about.csv").write_text(
        "path,price,brand,sold,since,zip,id\n"
        "2023/a.png,10,x,true,2023-01-05,01234,first\n"
        "2023/b.png,30,y,false,2023-02-05,99999,\n"
        "2024/c.png,19.5,x,,2024-02-29,00001,third\n"
        "elsewhere.png,1,z,true,2020-01-01,0,\n",
        encoding="utf-8",
    )
    return root


@pytest.fixture(scope="module")
def index(folder, tmp_path_factory) -> rg.Index:
    return rg.build(
        folder,
        tmp_path_factory.mktemp("index"),
        options=QUIET,
        metadata=folder / "about.csv",
        **MODELS,
    )


def ask(index: rg.Index, text: str, **options: object) -> list[rg.Hit]:
    return index.query(rg.Query.parse(text), matcher=CALIBRATED, **options)


# Clauses


def test_an_unwanted_thing_excludes_images_or_regions(index):
    assert set(names(ask(index, "red p:>0.5"))) == {"a.png", "b.png", "c.png"}
    assert set(names(ask(index, "red -blue p:>0.5"))) == {"a.png", "b.png"}
    assert set(names(ask(index, "red -blue not-in:region p:>0.5"))) == {"a.png", "b.png", "c.png"}
    assert names(ask(index, "red -red p:>0.1")) == []


def test_also_wants_both_and_returns_both_boxes(index):
    [hit] = ask(index, "red +blue p:>0.5")
    assert (hit.label, hit.box) == ("red", (5, 5, 25, 25))
    [other] = hit.also
    assert (other.phrase, other.label, other.box) == ("blue", "blue", (40, 30, 70, 50))
    assert hit.probability < min(1, other.probability)
    assert hit.as_dict()["also"][0]["label"] == "blue"
    assert other.explain().phrase == "blue"
    assert names(ask(index, "+blue +red p:>0.5")) == ["c.png"]


def test_combining_needs_probabilities(index):
    with pytest.raises(rg.GroundingError, match="no calibrated matcher"):
        index.query(rg.Query.parse("red -blue"), matcher=rg.CosineMatcher())


def test_plain_queries_answer_as_their_phrases_do(index):
    texts = ["red", "a blue thing"]
    plain = index.query(texts)
    assert index.query([rg.Query.parse(text) for text in texts]) == plain
    assert index.query(rg.Query.parse("red top:2")) == plain[0][:2]
    assert index.query("red -blue")[0].phrase == "red -blue"  # a text is a phrase


def test_titles_tell_queries_apart(index):
    [one, other] = index.query(
        [rg.Query.parse("red -blue"), rg.Query.parse("red -green")], matcher=CALIBRATED
    )
    assert {hit.phrase for hit in one} == {"red -blue"}
    assert {hit.phrase for hit in other} == {"red -green"}


# Filters


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ("label:red", "abc"),
        ("label:RED label:blue", "abcd"),
        ("-label:blue", "abef"),
        ("label:red -label:green", "ac"),
        ("size:>50%", "abcdef"),  # the whole image is a region
        ("label:red size:>50%", "b"),
        ("label:red size:<50%", "ac"),
        ("folder:2023", "ab"),
        ("folder:2024/*", "cdef"),
        ("-folder:2024", "ab"),
        ('folder:"2024/trip [1]"', "ef"),
        ("folder:tri?*", "ef"),
        ("folder:2023 folder:trip*", "abef"),
        ('where:"price < 20"', "ac"),
        ("where:\"price < 20 and brand = 'x'\"", "ac"),
        ('where:"not price < 20"', "bdef"),
        ('where:"sold = true"', "a"),
        ('where:"sold is null"', "cdef"),
        ("where:\"zip = '01234'\"", "a"),
        ("where:\"zip like '0%'\"", "ac"),
        ("where:\"brand in ('y', 'z')\"", "b"),
        ("where:\"since >= '2023-02'\"", "bc"),
        ("where:\"since = '2024-02'\"", "c"),
        ("where:\"since <= '2023'\"", "ab"),
        ("where:\"since != '2023'\"", "c"),
        ("where:\"id = 'third'\"", "c"),
        ('where:"width = 80 and height > 10 and gps = false"', "abcdef"),
        ("where:\"`price` > 15 or path like '%f.png'\"", "bcf"),
    ],
)
@pytest.mark.parametrize("exact", [False, True])
def test_filters(index, filters, expected, exact):
    hits = index.query(rg.Query.parse(f"red {filters}"), exact=exact)
    assert sorted(names(hits)) == [f"{letter}.png" for letter in expected]


def test_a_filtered_hit_is_an_allowed_region(index):
    hits = index.query(rg.Query.parse("red label:blue"))
    assert {hit.label for hit in hits} == {"blue"}


def test_conditions_that_do_not_fit_the_index_are_refused(index):
    for text, problem in (
        ("prize < 20", "no column prize; there are brand, price, since, sold, zip, path, id"),
        ("price = 'x'", "holds numbers, so compare it with a number"),
        ("brand = 3", "holds text, so compare it with a quoted text"),
        ("sold = 'yes'", "holds true and false"),
        ("since = 'yesterday'", "not a date"),
        ("price like '3%'", "holds numbers"),
    ):
        with pytest.raises(rg.QueryError, match=problem):
            index.query(rg.Query("red", filters=rg.Filters(where=text)))


def test_one_of_two_copies_may_be_in_the_folder(folder, tmp_path):
    shutil.copytree(folder / "2023", tmp_path / "photos" / "x")
    shutil.copytree(folder / "2023", tmp_path / "photos" / "y")
    index = rg.build(tmp_path / "photos", tmp_path / "index", options=QUIET, **MODELS)
    hits = index.query(rg.Query.parse("red folder:y label:red"))
    assert {Path(hit.image).parent.name for hit in hits} == {"y"}
    assert sorted(names(hits)) == ["a.png", "b.png"]


# Metadata


def test_hits_carry_ids_and_metadata(index):
    hits = {Path(hit.image).name: hit for hit in index.query("red")}
    assert hits["a.png"].id == "first"
    assert hits["a.png"].metadata == {
        "price": 10.0, "brand": "x", "sold": True, "since": "2023-01-05T00:00:00", "zip": "01234",
    }  # fmt: skip
    assert (hits["b.png"].id, hits["d.png"].id, hits["d.png"].metadata) == (None, None, {})
    assert "metadata" not in hits["d.png"].as_dict()
    assert index.build_report.described == 3
    assert [Path(key).name for key in index.build_report.unmatched] == ["elsewhere.png"]


def test_images_are_added_with_ids_and_metadata(folder, tmp_path):
    index = rg.build(folder / "2023", tmp_path / "index", options=QUIET, **MODELS)
    new = [folder / "2024" / name for name in ("c.png", "d.png")]
    report = index.add(
        new, ids=[7, 8], metadata=[{"price": 3}, {"price": 4.5, "note": "blue"}],
        detector=MODELS["detector"], options=QUIET,
    )  # fmt: skip
    assert (report.added, report.described) == (2, 2)
    [hit] = index.query(rg.Query.parse('red where:"price < 4"'))
    assert (hit.id, hit.metadata) == ("7", {"price": 3.0})
    index.add(new[:1], metadata=[{"note": "new"}], detector=MODELS["detector"], options=QUIET)
    [hit] = index.query(rg.Query.parse("red where:\"note = 'new'\""))
    assert (hit.id, hit.metadata) == ("7", {"price": 3.0, "note": "new"})
    with pytest.raises(rg.MetadataError, match="the id '8' is given to two images"):
        index.add(new[:1], ids=[8], detector=MODELS["detector"], options=QUIET)
    with pytest.raises(rg.MetadataError, match="has a zero byte"):
        index.add(new[:1], ids=["a\0b"], detector=MODELS["detector"], options=QUIET)
    with pytest.raises(rg.MetadataError, match="2 images were given with 1 ids"):
        index.add(new, ids=[8], detector=MODELS["detector"], options=QUIET)
    with pytest.raises(rg.MetadataError, match="column note of the index has values of type text"):
        index.add(new[:1], metadata=[{"note": 3}], detector=MODELS["detector"], options=QUIET)
    assert index.verify().faults == []


def test_images_without_a_path_have_ids_metadata_and_hashes_of_their_looks(folder, tmp_path):
    index = rg.build(folder / "2023", tmp_path / "index", options=QUIET, **MODELS)
    data = (folder / "2024" / "c.png").read_bytes()
    pixels = np.asarray(rg.load_image(folder / "2024" / "d.png"))
    report = index.add(
        iter([data, b"no image", pixels]), ids=["first", "none", "second"],
        metadata=[{"shelf": 1}, {"shelf": 2}, {"shelf": 3}],
        detector=MODELS["detector"], options=QUIET,
    )  # fmt: skip
    assert (report.added, report.described) == (2, 2)
    assert report.unmatched == [file.path for file in report.skipped]
    found = index.query(rg.Query.parse("blue where:shelf>0 unique:near"))
    assert {(hit.id, hit.metadata["shelf"]) for hit in found} == {("first", 1), ("second", 3)}
    assert all(hit.image.startswith("content:") for hit in found)
    assert index.verify().faults == []


def test_metadata_follows_a_moved_image_and_goes_with_a_removed_one(folder, tmp_path):
    photos, target = tmp_path / "photos", tmp_path / "index"
    shutil.copytree(folder / "2023", photos)
    (tmp_path / "about.jsonl").write_text('{"stem": "a", "price": 3}\n{"stem": "b", "price": 4}\n')
    rg.build(photos, target, options=QUIET, metadata=tmp_path / "about.jsonl", **MODELS)
    (photos / "a.png").rename(photos / "moved.png")
    index = rg.build(photos, target, options=QUIET, **MODELS)
    assert names(index.query(rg.Query.parse('red where:"price = 3"'))) == ["moved.png"]
    index.remove(photos / "b.png")
    assert index.query(rg.Query.parse('red where:"price = 4"')) == []
    assert index.verify().faults == []
    index.compact(0.0)
    assert names(index.query(rg.Query.parse('red where:"price = 3"'))) == ["moved.png"]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.csv", "price\n3\n", "does not say which images"),
        ("a.csv", "path,price\n", "no rows"),
        ("a.csv", "path,price\na.png\n", "line 2 has not as many values"),
        ("a.csv", 'path,price\na.png,"3\n', "line"),
        ("a.jsonl", "[1]\n", "not a JSON object"),
        ("a.jsonl", "{\n", "line 1 is not JSON"),
        ("a.jsonl", '{"stem": "a", "p": 1}\n{"stem": "b", "p": "x"}\n', "write all of them alike"),
        ("a.jsonl", '{"stem": "a", "p": [1]}\n', "a list that is not a text"),
        ("a.jsonl", '{"stem": "a", "p": 1e999}\n', "a float that is not"),
        ("a.jsonl", '{"stem": null}\n', "has no stem"),
        ("a.txt", "x", "use .csv, .jsonl or .parquet"),
        ("missing.csv", None, "is not a file"),
    ],
)
def test_bad_metadata_is_refused_before_anything_is_built(folder, tmp_path, name, text, problem):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(rg.MetadataError, match=problem):
        rg.build(folder, tmp_path / "index", metadata=tmp_path / name, options=QUIET, **MODELS)
    assert not (tmp_path / "index").exists()


def test_parquet_is_read_with_its_types(folder, tmp_path):
    import polars

    table = polars.DataFrame({"id": ["first", "third"], "price": [1, None], "new": [True, False]})
    table.write_parquet(tmp_path / "about.parquet")
    target = tmp_path / "index"
    rg.build(folder, target, options=QUIET, metadata=folder / "about.csv", **MODELS)
    about = tmp_path / "about.parquet"
    index = rg.build(folder, target, options=QUIET, metadata=about, **MODELS)
    hits = {hit.id: hit.metadata for hit in index.query("red")}
    assert (hits["first"]["price"], hits["first"]["new"]) == (1.0, True)
    assert "price" not in hits["third"]


@pytest.mark.parametrize("cut", [0, 4, 40, -9, -1])
def test_damaged_parquet_is_one_sentence(tmp_path, cut):
    import polars

    polars.DataFrame({"id": ["first"], "price": [1]}).write_parquet(tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data[:cut])
    with pytest.raises(rg.MetadataError, match="not a Parquet file"):
        read_metadata_file(tmp_path / "a.parquet")


# Dates, cameras, groups


@pytest.fixture(scope="module")
def dated(tmp_path_factory) -> rg.Index:
    """Noise in three bursts: each picture looks almost like those of its burst."""
    root = tmp_path_factory.mktemp("dated")
    random = np.random.default_rng(0)
    for burst, day in enumerate(("2024:05:01", "2024:06:01", "2023:01:01")):
        base = random.integers(0, 255, (8, 8, 3), np.uint8)
        for second in range(2):
            base = np.roll(base, 3 * second, axis=1)  # the camera has turned
            picture = Image.fromarray(base).resize((160, 120), Image.Resampling.BICUBIC)
            picture.paste((220, 20, 20), (10 + 40 * second, 10, 50 + 40 * second, 60))
            taken = f"{day} 12:00:0{second}"
            camera = "Leica M10" if burst == 0 else "Canon EOS"
            path = root / f"{burst}{second}.jpg"
            picture.save(path, quality=95, exif=exif(taken, camera, gps=burst == 2))
    with Image.open(root / "00.jpg") as picture:
        picture.resize((140, 105)).save(root / "smaller.jpg", exif=exif("2024:05:01 12:00:00"))
    shutil.copy(root / "10.jpg", root / "copy.jpg")
    return rg.build(root, tmp_path_factory.mktemp("index"), options=QUIET, **MODELS)


def test_photographs_are_found_by_date_and_camera(dated):
    def found(text: str) -> set[str]:
        return set(names(dated.query(rg.Query.parse(f"red {text}"), top=20)))

    assert found("since:2024-06") == {"10.jpg", "11.jpg", "copy.jpg"}
    assert found("until:2023") == {"20.jpg", "21.jpg"}
    assert found("since:2024-05-01 until:2024-05-01") == {"00.jpg", "01.jpg", "smaller.jpg"}
    assert found("where:\"camera = 'Leica M10'\"") == {"00.jpg", "01.jpg"}
    assert found('where:"gps = true"') == {"20.jpg", "21.jpg"}
    assert found("where:\"date < '2024'\"") == {"20.jpg", "21.jpg"}


def test_without_a_date_the_file_says_when(folder, tmp_path):
    import os

    shutil.copytree(folder / "2023", tmp_path / "photos")
    for name, seconds in (("a.png", 1_000_000_000), ("b.png", 1_500_000_000)):
        os.utime(tmp_path / "photos" / name, (seconds, seconds))
    index = rg.build(tmp_path / "photos", tmp_path / "index", options=QUIET, **MODELS)
    assert names(index.query(rg.Query.parse("red until:2002"))) == ["a.png"]
    assert names(index.query(rg.Query.parse("red since:2016"))) == ["b.png"]


def test_groups_keep_the_best_and_say_what_was_folded(dated):
    def groups(kind: str) -> list[dict[str, str]]:
        hits = dated.query(rg.Query.parse(f"red unique:{kind}"), top=20)
        return [{Path(s.image).name: s.relation for s in hit.similar} for hit in hits]

    assert len(dated.query("red", top=20)) == 8
    copies = groups("copies")
    assert len(copies) == 7
    assert [found for found in copies if found] == [{"copy.jpg": "copy"}] or [
        found for found in copies if found
    ] == [{"10.jpg": "copy"}]
    near = groups("near")
    assert len(near) == 6
    assert any("near" in found.values() for found in near)
    bursts = groups("bursts")
    assert len(bursts) == 3
    assert sum(map(len, bursts)) == 5


def test_diverse_hits_come_from_different_scenes(dated):
    hits = dated.query(rg.Query.parse("red diverse:yes top:3"))
    assert len(hits) == 3
    assert len({hit.image for hit in hits}) == 3


# Examples


def test_an_example_finds_what_looks_like_it(index, folder):
    by_box = rg.Query(like=rg.Example(folder / "2024" / "d.png", box=(5, 5, 25, 25)))
    assert names(index.query(by_box, top=2)) in (["d.png", "c.png"], ["c.png", "d.png"])
    blue = next(hit for hit in index.query("blue") if hit.image.endswith("d.png"))
    for text in (f"like:{blue.content_hash}:1", f"like:{blue.content_hash[:8]}:{blue.region_id}"):
        [hit] = index.query(rg.Query.parse(f"{text} top:1"))
        assert names([hit]) == ["c.png"]  # not the example itself
        assert (hit.label, hit.probability) == ("blue", None)
    vector = ColorEncoder().encode_phrases(["yellow"])[0]
    [hit] = index.query(rg.Query(like=rg.Example(vector=vector), top=1))
    assert hit.label == "yellow"


def test_an_example_may_be_bytes_or_pixels(index, folder):
    file = folder / "2024" / "d.png"
    expected = index.query(rg.Query(like=rg.Example(file, box=(5, 5, 25, 25))))
    for source in (file.read_bytes(), rg.load_image(file), np.asarray(rg.load_image(file))):
        query = rg.Query(like=rg.Example(source, box=(5, 5, 25, 25)))
        found = index.query(query)
        assert [hit.region_id for hit in found] == [hit.region_id for hit in expected]
        assert query.title == "like an example"
        with pytest.raises(rg.QueryError, match="has no text form"):
            str(query)


def test_an_example_can_be_weighted_with_a_phrase(index, folder):
    yellow = folder / "2024" / "trip [1]" / "e.png"

    def first(weight: float) -> str:
        example = rg.Example(yellow, box=(5, 5, 25, 25), weight=weight)
        return index.query(rg.Query("red", like=example), matcher=CALIBRATED)[0].label

    assert (first(0.01), first(100.0)) == ("red", "yellow")


def test_impossible_examples_are_refused(index, folder):
    for example, problem in (
        (rg.Example(content_hash="ffffff"), "no image of the index has"),
        (rg.Example(folder / "2024" / "d.png", box=(900, 900, 950, 950)), "not inside the image"),
        (rg.Example(vector=[1.0, 2.0]), "has 2 numbers"),
    ):
        with pytest.raises(rg.QueryError, match=problem):
            index.query(rg.Query(like=example))
    with pytest.raises(rg.ImageError, match="missing"):
        index.query(rg.Query(like=rg.Example("nowhere.png")))
    with pytest.raises(rg.QueryError, match="a score and no probability"):
        index.query(rg.Query.parse(f"like:{folder / '2023' / 'a.png'} p:>0.5"))
    known = index.query("red")[0].content_hash
    with pytest.raises(rg.QueryError, match="has the regions 0 to"):
        index.query(rg.Query(like=rg.Example(content_hash=known, region=99)))


# SQL


COLUMNS = {"price": "number", "brand": "text", "sold": "boolean", "bought": "date"}
HOSTILE = "x'; DROP TABLE images; --"


def test_what_users_write_never_becomes_sql(index):
    shapes = [
        Filters(folders=(HOSTILE,), without_folders=(HOSTILE,)),
        Filters(where=f"brand = '{HOSTILE.replace(chr(39), chr(39) * 2)}'"),
        Filters(where=f'brand like "{HOSTILE}" or brand in ("{HOSTILE}", "b")'),
    ]
    for filters in shapes:
        compiled = compile_filters(filters, COLUMNS)
        assert "DROP" not in compiled.sql
        assert any(HOSTILE in str(value) for value in compiled.values)
        assert index.query(rg.Query("red", filters=filters)) == []
    assert len(index) == 6


literals = st.text(max_size=30).filter(lambda text: "\0" not in text)


@settings(deadline=None)  # the machine may be busy
@given(literals, literals, st.floats(allow_nan=False, allow_infinity=False))
def test_the_sql_depends_on_the_shape_alone(text, other, number):
    def where(text: str, number: float) -> str:
        quoted = text.replace("'", "''")
        return f"(brand = '{quoted}' or price < {number!r}) and not brand like '{quoted}'"

    def compiled(text: str, other: str, number: float) -> str:
        folder = other if other.strip() and other.count("*") + other.count("?") <= 16 else "x"
        return compile_filters(Filters(folders=(folder,), where=where(text, number)), COLUMNS).sql

    assert compiled(text, other, number) == compiled("a", "b", 0.0)


@settings(deadline=None)  # the machine may be busy
@given(st.text(max_size=40))
def test_a_hostile_column_name_is_only_a_name(name):
    quoted = name.replace("`", "")
    if not quoted:
        return
    compiled = compile_filters(
        Filters(where=f"`{quoted}` = 'x'") if "\0" not in quoted else Filters(),
        {quoted: "text"},
    )
    if compiled is not None:
        assert compiled.values == (quoted, "x")
        assert compiled.sql == compile_filters(Filters(where="b = 'x'"), {"b": "text"}).sql


def test_hostile_metadata_in_a_catalog_is_damage(folder, tmp_path):
    target = tmp_path / "index"
    rg.build(folder, target, options=QUIET, metadata=folder / "about.csv", **MODELS)
    with sqlite3.connect(target / "catalog.sqlite") as connection:
        connection.execute("UPDATE metadata SET value = x'00ff' WHERE name = 'price'")
    index = rg.Index.open(target, encoder=MODELS["clip"])
    with pytest.raises(rg.StoreError, match="different type"):
        index.query("red")
    assert [fault.kind for fault in index.verify().faults] == ["catalog"]


# The command line


def test_every_clause_is_also_an_option(folder, tmp_path, monkeypatch, capsys):
    from retrieval_grounding.cli.app import app

    target = tmp_path / "index"
    rg.build(folder, target, options=QUIET, metadata=folder / "about.csv", **MODELS)
    monkeypatch.setattr(
        "retrieval_grounding.search.opened.load_index_encoder", lambda *_: MODELS["clip"]
    )
    monkeypatch.setattr(
        "retrieval_grounding.search.opened.load_index_matcher", lambda *_: CALIBRATED
    )

    def run(*arguments: str) -> list[str]:
        app(["query", str(target), *arguments, "--json"], standalone_mode=False)
        [answer] = json.loads(capsys.readouterr().out)
        return sorted(Path(hit["image"]).name for hit in answer["hits"])

    red = ["red", "--min-probability", "0.5"]
    assert run(*red, "--not", "blue") == ["a.png", "b.png"]
    assert run(*red, "--not", "label:green") == ["a.png", "c.png"]
    assert run(*red, "--not", "blue", "--not-in", "region") == ["a.png", "b.png", "c.png"]
    assert run(*red, "--also", "blue") == ["c.png"]
    assert run("red", "--label", "red", "--folder", "2024/*") == ["c.png"]
    assert run("red", "--label", "red", "--min-size", "50%") == ["b.png"]
    assert run("red", "--label", "red", "--max-size", "0.5") == ["a.png", "c.png"]
    assert run("red", "--where", "price < 20", "--where", "brand = 'x'") == ["a.png", "c.png"]
    assert run("red", "--since", "2000", "--until", "2001") == []
    assert run("--like", f"{folder}/2024/d.png:5,5,25,25", "--label", "blue") == ["c.png", "d.png"]
    assert run("red", "--unique", "bursts", "--diverse", "--top", "2")
    assert run("red -blue p:>0.5 label:red folder:2023") == ["a.png", "b.png"]
    app(["query", str(target), "red", "--explain", "--top", "1", "--json"], standalone_mode=False)
    [answer] = json.loads(capsys.readouterr().out)
    assert answer["hits"][0]["explanation"]["cosine"] > 0.9


def test_a_wrong_query_is_wrong_usage(folder, tmp_path, capsys):
    import typer

    from retrieval_grounding.cli.app import app

    rg.build(folder, tmp_path / "index", options=QUIET, **MODELS)
    for arguments in (["red lable:dog"], ["red", "--min-size", "x"], [""], ["red", "--not", ""]):
        with pytest.raises((typer.BadParameter, rg.QueryError)):
            app(["query", str(tmp_path / "index"), *arguments], standalone_mode=False)


# Explanations


def test_a_hit_says_why_it_was_found(index):
    [hit] = ask(index, "red -green label:red folder:2024")
    why = hit.explain()
    assert (why.phrase, why.label, why.probability) == ("red", "red", hit.probability)
    assert why.score == why.cosine == pytest.approx(1, abs=1e-2)
    assert why.label_cosine == pytest.approx(1, abs=1e-3)
    assert why.colors == {"red": pytest.approx(1, abs=0.01)}
    assert [part.name for part in why.parts] == [
        "appearance", "label", "color", "place", "relation",
    ]  # fmt: skip
    assert sum(part.value for part in why.parts) == pytest.approx(why.score)
    assert why.runner_up.label in ("whole image", "blue")
    assert why.runner_up.score < why.score
    assert [(clause.clause, clause.phrase) for clause in why.clauses] == [
        ("wanted", "red"), ("unwanted", "green"),
    ]  # fmt: skip
    assert "runner-up in this image" in str(why)
    json.dumps(why.as_dict())


def test_parts_are_what_the_evidence_adds(index):
    """A matcher that looks at labels, colors and places, each with a weight that is known."""

    class Known(rg.CosineMatcher):
        def score(self, phrases, regions):
            left = 1 - regions.boxes[:, 0] / regions.boxes[0, 2]
            labels = regions.label_embeddings[regions.labels] @ phrases.embeddings.T
            crowd = np.full(len(regions), float(len(regions)))
            red = regions.colors[:, 4] / 255
            return (2 * labels.T + 3 * red + 5 * left + 7 * crowd).astype(np.float32)

        def score_pairs(self, phrases, regions, phrase_rows):
            ends = regions.offsets[1:]
            sizes = np.repeat(np.diff(regions.offsets), np.diff(regions.offsets))
            assert len(ends) == len(phrase_rows)
            return (7 * sizes + regions.colors[:, 4] / 255).astype(np.float32)

    hit = next(h for h in index.query("red", matcher=Known()) if h.image.endswith("c.png"))
    parts = {part.name: part.value for part in hit.explain().parts}
    assert parts["label"] == pytest.approx(2, abs=0.01)
    assert parts["color"] == pytest.approx(3, abs=0.05)
    assert parts["relation"] == pytest.approx(7, abs=0.01)  # one of three regions is hidden
    assert parts["place"] > 0  # it is on the left

    class Knowing(Known):
        def explain(self, phrases, regions):
            return {"relation": np.full((1, len(regions)), 0.25)}

    hit = next(h for h in index.query("red", matcher=Knowing()) if h.image.endswith("c.png"))
    assert {part.name: part.value for part in hit.explain().parts}["relation"] == 0.25


def test_explanations_need_their_search(index, folder):
    import pickle

    hit = index.query("red", top=1)[0]
    assert hit.explain().calibration
    stored = pickle.loads(pickle.dumps(hit))  # noqa: S301
    assert stored == hit
    with pytest.raises(rg.GroundingError, match="ask the query again"):
        stored.explain()
    one = rg.ground(folder / "2024" / "c.png", "the blue one", **MODELS)
    assert one.explain().label == "blue"
    [like] = index.query(rg.Query.parse(f"like:{hit.content_hash}:1 top:1"))
    assert like.explain().likeness[0] == pytest.approx(like.score, abs=1e-3)
