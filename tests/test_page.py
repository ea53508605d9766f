"""What pages are made of, without a browser: URLs, facets, who writes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

import retrieval_grounding as rg
from retrieval_grounding.search.facets import facets
from retrieval_grounding.search.suggestions import suggest_phrases
from retrieval_grounding.storage.catalog import Catalog
from retrieval_grounding.storage.lock import current_writer, writer_lock

datastructures = pytest.importorskip("starlette.datastructures", reason="needs the service")

from retrieval_grounding.service.pages.address import Address  # noqa: E402
from retrieval_grounding.service.templating import STATIC_FOLDER  # noqa: E402

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=30)
clauses = st.sampled_from(
    ["label:dog", "-label:cat", 'folder:"my photos"', "size:>5%", "since:2024", "like:abcdef:3"]
)


def read(url: str) -> Address:
    return Address.read(datastructures.QueryParams(urlsplit(url).query))


def test_templates_have_nothing_that_the_policy_forbids():
    for template in (STATIC_FOLDER.parent / "templates").glob("*.html"):
        text = template.read_text(encoding="utf-8")
        assert not re.search(r"\sstyle=|<style|<script(?![^>]* src=)|\son[a-z]+=", text), template
        assert not re.search(r"(?:src|href|action)=.?https?:", text), template


@given(
    q=words,
    f=st.lists(clauses, unique=True, max_size=4),
    p=st.integers(0, 100),
    folded=st.booleans(),
    page=st.integers(1, 50),
    index=st.one_of(st.none(), st.just("my-photos")),
)
def test_a_url_says_what_it_was_made_of(q, f, p, folded, page, index):
    address = Address.read(datastructures.QueryParams([("q", q), *(("f", one) for one in f)]))
    given = Address(index, address.words, address.clauses, p, folded, page)
    assert read(given.url("/")) == given


@given(st.text(), st.text(), st.text(), st.text())
def test_any_url_is_read(q, f, p, page):
    pairs = [("q", q), ("f", f), ("p", p), ("page", page)]
    address = Address.read(datastructures.QueryParams(pairs))
    assert 0 <= address.percent <= 100
    assert address.page >= 1
    assert address.url("/").isascii()


def test_a_facet_replaces_the_one_of_its_kind():
    address = Address(words="a dog", clauses=("label:dog", "size:>2%", "size:<10%"))
    assert address.with_clauses("label:cat").text == "a dog size:>2% size:<10% label:cat"
    assert address.with_clauses("size:>40%").clauses == ("label:dog", "size:>40%")


@pytest.fixture
def index(photos, models, tmp_path):
    (photos / "more").mkdir()
    (photos / "a.png").rename(photos / "more" / "a.png")
    options = rg.BuildOptions(progress=False)
    with rg.build(photos, tmp_path / "index", options=options, **models) as built:
        yield built


def test_each_choice_of_a_facet_keeps_as_many_hits_as_it_says(index):
    hits = index.query("red", top=10)
    with_dates = Catalog(index.directory)
    dates = with_dates.dates_of([hit.image for hit in hits])
    assert dates.keys() == {hit.image for hit in hits}
    found = {facet.name: facet for facet in facets(hits, dates)}
    assert {"Label", "Size"} <= found.keys()
    for name in found.keys() & {"Folder", "Date"}:  # those that are about images
        for choice in found[name].choices:
            query = rg.Query.parse(f"red {choice.clauses}")
            assert len(index.query(query, top=10)) == choice.count
    with_dates.close()


def test_suggestions_are_phrases_of_the_collection(index):
    assert suggest_phrases(index.directory, 2) == ["a red", "a blue"]


def test_who_writes_is_known_while_it_writes(index):
    assert current_writer(index.directory) is None
    with writer_lock(index.directory):
        writer = current_writer(index.directory)
        assert writer is not None
        assert writer.process == os.getpid()
    assert current_writer(index.directory) is None


def test_the_note_of_a_killed_writer_is_not_believed(index):
    note = index.directory / ".writer.json"
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], check=True, stdout=-1
    )
    with writer_lock(index.directory):
        claim = json.loads(note.read_text())
    note.write_text(json.dumps(claim | {"process": int(ended.stdout)}))
    assert current_writer(index.directory) is None
    note.write_text("{}")
    assert current_writer(index.directory) is None
