"""The text form of queries: what it means, what it refuses, and that it survives a round trip."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import retrieval_grounding as rg
from retrieval_grounding.core.query.units import date_range
from retrieval_grounding.core.query.where import And, Comparison, Not, Or, parse_where

EXAMPLE = 'a dog -"on grass" +red label:person folder:2024/* size:>5% p:>0.4 since:2024-05'


def test_the_example_of_the_documentation_is_understood():
    query = rg.Query.parse(EXAMPLE)
    assert query == rg.Query(
        "a dog",
        unwanted=("on grass",),
        also=("red",),
        filters=rg.Filters(labels=("person",), folders=("2024/*",), min_size=0.05, since="2024-05"),
        min_probability=0.4,
    )
    assert rg.Query.parse(str(query)) == query


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("a well-known dog", "a well-known dog"),
        ('a 5" screen', 'a 5" screen'),
        ("the clock at 12:30", "the clock at 12:30"),
        ("the sign: stop", "the sign: stop"),
        ('"label:person" on a shirt', "label:person on a shirt"),
        ('a sign with "-"', "a sign with -"),
        (r'"she said \"hi\" \\ left"', r'she said "hi" \ left'),
        ("日本の犬", "日本の犬"),
    ],
)
def test_plain_phrases_stay_what_they_are(text, phrase):
    query = rg.Query.parse(text)
    assert (query.phrase, query.is_plain) == (phrase, True)


def test_settings_and_negated_filters():
    query = rg.Query.parse(
        "+dog +ball -label:person -folder:private label:dog label:cat "
        "size:>=0.1 size:<50% until:2025 where:\"a = 'x y'\" top:7 unique:bursts diverse:yes "
        "not-in:region like:a.jpg:1,2,3,4+0.5 like:9f86d081:3"
    )
    assert query.phrase is None
    assert query.promoted().phrase is None  # an example can lead, too
    assert query.also == ("dog", "ball")
    assert query.filters == rg.Filters(
        labels=("dog", "cat"), without_labels=("person",), without_folders=("private",),
        min_size=0.1, max_size=0.5, until="2025", where="a = 'x y'",
    )  # fmt: skip
    assert (query.top, query.unique, query.diverse, query.scope) == (7, "bursts", True, "region")
    assert query.like == (
        rg.Example("a.jpg", box=(1, 2, 3, 4), weight=0.5),
        rg.Example(content_hash="9f86d081", region=3),
    )


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("a dog lable:person", 6, "did you mean label:"),
        ("a dog http://x", 6, "there is no filter http:"),
        ('a "dog', 2, 'no closing "'),
        ('a "dog"s', 7, "put a space"),
        ("a dog - grass", 6, "what comes after '-' is empty"),
        ("a dog label:", 6, "needs a value"),
        ("a dog size:5%", 6, "at least"),
        ("a dog size:>500%", 6, "more than 100%"),
        ("a dog p:<0.4", 6, "smallest"),
        ("a dog since:yesterday", 6, "not a date"),
        ("a dog since:2024-02-30", 6, "there is no date"),
        ("a dog top:0", 6, "number of hits"),
        ("a dog unique:faces", 6, "copies, near, bursts"),
        ("a dog +label:x", 6, "cannot have a '+'"),
        ("a dog -top:3", 6, "cannot have a '-'"),
        ("a dog like:x.jpg:9,9,1,1", 6, "x1 < x2"),
        ("a dog since:2024 since:2025", 17, "given twice"),
        ('a dog where:"price <"', 7, "value is missing"),
    ],
)
def test_errors_say_where(text, position, problem):
    with pytest.raises(rg.QueryError, match=problem.replace("+", r"\+")) as error:
        rg.Query.parse(text)
    assert error.value.position == position


@pytest.mark.parametrize("text", ["", "  ", "label:dog", "-person", "top:3"])
def test_a_query_asks_for_something(text):
    with pytest.raises(rg.QueryError, match="nothing to find"):
        rg.Query.parse(text)


def test_impossible_values_are_refused():
    for make in (
        lambda: rg.Query("a", top=0),
        lambda: rg.Query("a", min_probability=2),
        lambda: rg.Query("a", also=("x",) * 40),
        lambda: rg.Query("a", scope="somewhere"),
        lambda: rg.Query("a", unique="all"),
        lambda: rg.Filters(folders=("*" * 30,)),
        lambda: rg.Filters(min_size=3),
        lambda: rg.Filters(labels=("",)),
        rg.Example,
        lambda: rg.Example("a.jpg", content_hash="abcdef"),
        lambda: rg.Example(content_hash="XYZ"),
        lambda: rg.Example(vector=[0.0, float("nan")]),
        lambda: rg.Example("a.jpg", weight=-1),
        lambda: rg.Example("a.jpg", region=1),
    ):
        with pytest.raises(rg.QueryError):
            make()


def test_a_vector_has_no_text_form():
    query = rg.Query(like=rg.Example(vector=[1.0, 0.0]))
    with pytest.raises(rg.QueryError, match="no text form"):
        str(query)
    assert repr(query) == "<Query 'like an example'>"


words = st.text(min_size=1, max_size=12).filter(
    lambda text: (
        text.strip() and "\0" not in text and any(c.isprintable() and c != " " for c in text)
    )
)
shares = st.floats(0, 1)
examples = st.builds(
    lambda path, box, weight: rg.Example(path, box, weight=weight),
    words.filter(lambda path: ":" not in path),
    st.none() | st.tuples(*[st.floats(0, 1e6)] * 4).filter(lambda b: b[0] < b[2] and b[1] < b[3]),
    st.floats(0, 1000, exclude_min=True),
) | st.builds(
    lambda digits, region: rg.Example(content_hash=digits, region=region),
    st.text("0123456789abcdef", min_size=6, max_size=32),
    st.integers(0, 2**63 - 1),
)
texts = st.lists(words, max_size=3).map(tuple)
queries = st.builds(
    rg.Query,
    phrase=words,
    unwanted=texts,
    also=texts,
    like=st.lists(examples, max_size=2).map(tuple),
    filters=st.builds(
        rg.Filters,
        labels=texts,
        without_labels=texts,
        folders=texts,
        without_folders=texts,
        min_size=st.none() | shares,
        max_size=st.none() | shares,
        since=st.none() | st.dates().map(str),
        until=st.none() | st.integers(1, 9999).map("{:04d}".format),
        where=st.none() | words.map(lambda word: "a = '" + word.replace("'", "''") + "'"),
    ),
    top=st.none() | st.integers(1, 1_000_000),
    min_probability=st.none() | shares,
    scope=st.sampled_from(["image", "region"]),
    unique=st.sampled_from([None, "copies", "near", "bursts"]),
    diverse=st.booleans(),
)


@settings(deadline=None)  # the machine may be busy
@given(queries)
def test_every_query_survives_its_text_form(query):
    """Labels are sets, so a repeated one is asked once."""
    again = rg.Query.parse(str(query))
    assert str(again) == str(rg.Query.parse(str(again)))
    assert again.phrase == query.phrase
    assert (again.unwanted, again.also, again.like) == (query.unwanted, query.also, query.like)
    assert (again.top, again.min_probability) == (query.top, query.min_probability)
    assert dict.fromkeys(query.filters.labels) == dict.fromkeys(again.filters.labels)
    assert (again.filters.min_size, again.filters.max_size, again.filters.where) == (
        query.filters.min_size, query.filters.max_size, query.filters.where,
    )  # fmt: skip


pieces = st.sampled_from(
    ["a", "dog", '"', "-", "+", ":", " ", "label:", "size:>", "5%", "where:", "like:", "since:",
     "2024", "p:", "\\", "'", "(", "and", "=", "top:", "\n", "é", "unique:", "near"]
)  # fmt: skip


@settings(deadline=None)  # the machine may be busy
@given(st.lists(pieces, max_size=20).map("".join) | st.text(max_size=60))
def test_any_text_is_a_query_or_a_query_error(text):
    try:
        query = rg.Query.parse(text)
    except (rg.QueryError, rg.PhraseError):
        return
    assert rg.Query.parse(str(query)) == query


def test_conditions_bind_as_in_sql():
    tree = parse_where("not a = 1 and b in ('x', 2) or c is not null")
    assert isinstance(tree, Or)
    assert tree.right == Comparison("c", "known", (), 31)
    assert isinstance(tree.left, And)
    assert tree.left.left == Not(Comparison("a", "=", (1,), 4))
    assert tree.left.right.values == ("x", 2)
    assert parse_where("`unit price` >= -1.5e3").column == "unit price"
    assert parse_where("name like 'O''Brien%'").values == ("O'Brien%",)
    assert parse_where("sold = TRUE").values == (True,)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", 0),
        ("price", 5),
        ("price <", 7),
        ("price < x", 8),
        ("price < 'x", 8),
        ("price < 1 brand = 2", 10),
        ("(price < 1", 10),
        ("price < 1; drop table images", 9),
        ("1 = 1", 0),
        ("price in ()", 10),
        ("price like 3", 11),
        ("and = 1", 0),
        ("a = 1 -- b", 6),
        ("a = 1e999", 4),
    ],
)
def test_what_is_no_condition_is_refused_with_its_position(text, position):
    with pytest.raises(rg.QueryError) as error:
        parse_where(text)
    assert error.value.position == position


def test_conditions_are_limited():
    with pytest.raises(rg.QueryError, match="inside each other"):
        parse_where("(" * 100 + "a = 1" + ")" * 100)
    with pytest.raises(rg.QueryError, match="at most 64 comparisons"):
        parse_where(" or ".join(["a = 1"] * 100))
    with pytest.raises(rg.QueryError, match="at most"):
        parse_where("a = '" + "x" * 5000 + "'")


@settings(deadline=None)  # the machine may be busy
@given(st.text(max_size=80))
def test_any_text_is_a_condition_or_a_query_error(text):
    try:
        parse_where(text)
    except rg.QueryError as error:
        assert error.position is None or 0 <= error.position <= len(text)


@settings(deadline=None)  # the machine may be busy
@given(st.text(max_size=20))
def test_any_text_is_a_date_or_a_value_error(text):
    try:
        first, last = date_range(text)
    except ValueError:
        return
    assert first <= last
