"""The parts of phrases, and phrases that differ in one of them."""

from __future__ import annotations

import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_grounding.core.colors import COLORS
from retrieval_grounding.matching.language import lexicon
from retrieval_grounding.matching.language.changes import changed_phrases
from retrieval_grounding.matching.language.parse import parse_phrase
from retrieval_grounding.matching.language.parts import PhraseParts, Role
from retrieval_grounding.matching.language.siblings import OPPOSITES, SIBLINGS, SIMILAR_COLORS
from retrieval_grounding.matching.language.words import (
    fix_articles,
    is_plural,
    plural,
    singular,
)


@pytest.mark.parametrize(
    ("phrase", "core", "noun", "relation", "landmark"),
    [
        ("man left of bus", "man", "man", "left of", "bus"),
        ("bus left of man", "bus", "bus", "left of", "man"),
        ("left guy", "guy", "guy", "", ""),
        ("guy on right", "guy", "guy", "", ""),
        ("woman in red on the far right", "woman in red", "woman", "", ""),
        ("second duck from right", "duck", "duck", "", ""),
        ("top left pizza slice", "pizza slice", "pizza slice", "", ""),
        ("red shirt man far right", "red shirt man", "man", "", ""),
        ("lower right guy white shirt", "guy white shirt", "guy", "", ""),
        ("on left man in red", "man in red", "man", "", ""),
        ("person on bench in blue shirt", "person in blue shirt", "person", "on", "bench"),
        ("man next to woman in red", "man", "man", "next to", "woman in red"),
        ("a girl with a pink umbrella standing next to a dog",
         "girl with a pink umbrella standing", "girl", "next to", "dog"),
        ("A round wooden table with a brown top.", "round wooden table with a brown top", "table",
         "", ""),
        ("a skier in a red jacket", "skier in a red jacket", "skier", "", ""),
        ("the bag over the shoulder of the man", "bag", "bag", "above", "shoulder of the man"),
        ("chair that the man on the right is sitting on", "chair", "chair", "of", "man"),
        ("the chair she is sitting on", "chair", "chair", "", ""),
        ("man's hand", "hand", "hand", "of", "man"),
        ("a red snowboard on a man ' s feet", "red snowboard", "snowboard", "on", "man feet"),
        ("cup of coffee on the table", "cup of coffee", "cup", "on", "table"),
        ("slice of pizza", "slice of pizza", "pizza", "", ""),
        ("top of cake", "top of cake", "cake", "", ""),
        ("a person holding a red cup", "person", "person", "holding", "red cup"),
        ("zebra facing right", "zebra facing right", "zebra", "", ""),
        ("bike between the bus and the car", "bike", "bike", "between", "bus and the car"),
        ("snow covered mountains", "snow covered mountains", "mountains", "", ""),
        ("girl in blue top", "girl in blue top", "girl", "", ""),
        ("hot dog on the left", "hot dog", "hot dog", "", ""),
        ("orange on left", "orange", "orange", "", ""),
    ],
)  # fmt: skip
def test_a_phrase_has_these_parts(phrase, core, noun, relation, landmark):
    parts = parse_phrase(phrase)
    assert (parts.core, parts.noun, parts.relation, parts.landmark) == (
        core, noun, relation, landmark
    )  # fmt: skip


@pytest.mark.parametrize(
    ("phrase", "places", "ordinal", "comparatives"),
    [
        ("far right person", ("far", "right"), 0, ()),
        ("third bench from the left", ("left",), 3, ()),
        ("last one on the bottom", ("bottom",), -1, ()),
        ("the taller man", (), 0, ("taller",)),
        ("front most bike", ("front",), 0, ()),
        ("cow closest to camera", ("closest",), 0, ()),
        ("man in the background of the picture", ("background",), 0, ()),
        ("zebra facing left", (), 0, ()),
        ("man not on the left", (), 0, ()),
        ("dog left of the car", (), 0, ()),
    ],
)
def test_places_ordinals_and_comparatives_are_apart_from_the_core(
    phrase, places, ordinal, comparatives
):
    parts = parse_phrase(phrase)
    assert (parts.places, parts.ordinal, parts.comparatives) == (places, ordinal, comparatives)
    assert not set(parts.core.split()) & {*places, *comparatives} or "facing" in phrase


@pytest.mark.parametrize("phrase", ["middle", "the left one", "in green", "third from left", "red"])
def test_a_phrase_without_a_noun_says_so(phrase):
    parts = parse_phrase(phrase)
    assert not parts.named
    assert parts.noun == parts.core
    assert parts.core


@pytest.mark.parametrize(
    ("phrase", "count"),
    [
        ("three zebras", 3), ("two men", 2), ("a pair of shoes", 2), ("several people", 0),
        ("zebras", 0), ("a group of people", 0), ("a herd of elephants", 0), ("one of the dogs", 1),
        ("a black dog and a white dog", 2), ("pair of pants", 1), ("man with two dogs", 1),
        ("a couple", 2), ("black pants", 1), ("bus", 1), ("both girls", 2), ("sheep", 1),
        ("hat and glasses", 1), ("5 kites", 5), ("player number 5", 1), ("a television set", 1),
    ],
)  # fmt: skip
def test_things_are_counted(phrase, count):
    parts = parse_phrase(phrase)
    assert parts.count == count
    assert parts.group == (count != 1)


@pytest.mark.parametrize(
    ("phrase", "negated", "core"),
    [
        ("woman without glasses", ("glasses",), "woman"),
        ("man not wearing a hat", ("hat",), "man"),
        ("a street with no cars", ("cars",), "street"),
        ("no shirt guy on left", ("shirt",), "guy"),
        ("the girl who isn't smiling", ("smiling",), "girl"),
        ("man in hat and no glasses", ("glasses",), "man in hat"),
        ("no one", ("one",), "no one"),
        ("nobody on the bench", ("nobody",), "nobody on the bench"),
    ],
)
def test_what_is_denied_is_no_part_of_the_core(phrase, negated, core):
    parts = parse_phrase(phrase)
    assert parts.negated == negated
    assert parts.core == core


@pytest.mark.parametrize(
    ("phrase", "colors"),
    [
        ("a grey cat", "gray"), ("navy shirt", "blue"), ("blond woman", "yellow"),
        ("man in red next to a blue car", "red"), ("black-and-white dog", "black white"),
        ("a tan colored dog", "brown"), ("woman not in red", ""), ("a wooden table", ""),
        ("lime green collar", "green"), ("a woman in a navy blue dress", "blue"),
    ],
)  # fmt: skip
def test_colors_are_those_of_the_target(phrase, colors):
    assert parse_phrase(phrase).colors == tuple(COLORS.index(name) for name in colors.split())


_WORDS = st.sampled_from(
    "the a man red shirt left of on in with no not without and next to top , two second from that "
    "is holding walking bus dogs one biggest closest camera his woman's middle behind pair orange"
    .split()
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(_WORDS, max_size=14).map(" ".join)))
def test_any_text_has_parts(text):
    parts = parse_phrase(text)
    assert isinstance(parts, PhraseParts)
    assert len(parts.roles) == len(parts.words)
    assert all(type(role) is Role for role in parts.roles)
    assert bool(parts.relation) == bool(parts.landmark)
    assert bool(parts.core) == bool(parts.noun) == bool(parts.full)
    assert parts.count >= 0
    assert parse_phrase(text) == parts
    for negation in parts.negated:
        assert negation


def test_ten_thousand_phrases_take_a_second():
    phrases = [
        f"{number} {noun} in a {color} shirt on the left of the bus"
        for number in ("second", "two", "the")
        for noun in ("man", "dog", "vase")
        for color in COLORS
    ] * 10
    start = time.process_time()
    for phrase in phrases:
        parse_phrase(phrase)
    assert len(phrases) / (time.process_time() - start) > 10_000


def test_a_plural_leads_back_to_its_singular():
    for noun in SIBLINGS:
        last = noun.split()[-1]
        if not is_plural(last):
            assert singular(plural(noun).split()[-1]) == last


def test_articles_follow_the_sound():
    assert fix_articles("an blue bus, a umbrella, an uniform and a pants") == (
        "a blue bus, an umbrella, a uniform and pants"
    )


# Changed phrases ---------------------------------------------------------------------------------


def changes_of(phrase, seeds=60):
    """Return all changes ever made, by kind."""
    found = {}
    for seed in range(seeds):
        for change in changed_phrases(phrase, Random(seed)):
            found.setdefault(change.kind, set()).add(change.phrase)
    return found


@pytest.mark.parametrize(
    ("phrase", "kind", "expected"),
    [
        ("man left of bus", "order", {"bus left of man"}),
        ("man left of bus", "relation", {"man right of bus"}),
        ("man left of bus", "noun", {"woman left of bus", "girl left of bus"}),
        ("cat behind the sofa", "relation", {"cat in front of the sofa"}),
        ("the second man from the left", "ordinal",
         {"the first man from the left", "the third man from the left"}),
        ("the second man from the left", "place", {"the second man from the right"}),
        ("the taller girl", "comparative", {"the shorter girl"}),
        ("a small dog", "size", {"a big dog"}),
        ("a short woman with short hair", "size",
         {"a tall woman with short hair", "a short woman with long hair"}),
        ("an old man", "age", {"a young man"}),
        ("a striped shirt", "pattern",
         {"a plaid shirt", "a floral shirt", "a dotted shirt", "a plain shirt"}),
        ("a table made of wood", "material",
         {f"a table made of {name}" for name in "metal plastic leather stone ceramic".split()}),
        ("two dogs", "count", {"three dogs", "four dogs", "five dogs"}),
        ("a standing man", "action", {"a sitting man", "a lying man"}),
        ("man with a hat", "negation", {"man without a hat"}),
        ("man wearing glasses", "negation", {"man not wearing glasses"}),
        ("cow closest to us", "place", {"cow farthest from us"}),
        ("women on a couch", "noun", {"men on a couch", "boys on a couch"}),
    ],
)  # fmt: skip
def test_one_thing_is_changed(phrase, kind, expected):
    assert changes_of(phrase)[kind] == expected


def test_a_color_changes_to_one_that_nobody_would_confuse():
    reds = {text.split()[1] for text in changes_of("a red car")["color"]}
    assert reds == set(COLORS) - {"red", *SIMILAR_COLORS["red"].split()}
    assert changes_of("woman with blond hair")["color"] <= {
        f"woman with {color} hair" for color in ("black", "brown", "gray", "red")
    }


def test_articles_and_plurals_are_right_after_a_change():
    assert "an orange car" in changes_of("a green car", 300)["color"]
    assert changes_of("an elephant")["noun"].isdisjoint({"an dog", "a dogs"})
    assert changes_of("a man in a shirt")["part"] == {
        "a man in a dress", "a man in a jacket"
    }  # fmt: skip
    assert changes_of("a boy in a tie")["part"] == {"a boy in a scarf", "a boy in a belt"}
    assert "grass in front of a house" in changes_of("a street in front of a house")["noun"] or (
        "a field in front of a house" in changes_of("a street in front of a house")["noun"]
    )


@pytest.mark.parametrize("phrase", ["woman without glasses", "man not wearing a hat"])
def test_what_is_denied_stays(phrase):
    denied = phrase.split(maxsplit=1)[1]
    for texts in changes_of(phrase).values():
        assert all(text.endswith(denied) for text in texts)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(_WORDS, max_size=12).map(" ".join)), st.integers(0, 99))
def test_changes_of_any_text_differ_from_it_and_from_each_other(text, seed):
    changes = changed_phrases(text, Random(seed))
    texts = [change.phrase for change in changes]
    assert len(set(texts)) == len(texts)
    assert " ".join(parse_phrase(text).words).replace(" ,", ",") not in texts
    for change in changes:
        assert change.old != change.new
        assert change.phrase == change.phrase.strip()
        assert "  " not in change.phrase and "_" not in change.new
    assert changed_phrases(text, Random(seed)) == changes


def test_siblings_exclude_each_other():
    for noun, others in SIBLINGS.items():
        assert noun not in others
    for kind, words in OPPOSITES.items():
        assert all(word not in others for word, others in words.items()), kind
    assert all(name in COLORS for name in SIMILAR_COLORS)
    assert set(lexicon.COLOR_WORDS.values()) == set(range(len(COLORS)))
