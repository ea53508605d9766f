"""``rg.connect``: the methods and types of an open index, over HTTP (issue 19)."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvicorn
from serving import png

import retrieval_grounding as rg
from retrieval_grounding.service.app import create_app
from retrieval_grounding.service.settings import ServiceSettings

TOKEN = "a token that nobody guesses"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """An index of the bundled models, with a picture that can be told from the others."""
    folder = tmp_path_factory.mktemp("client")
    empty = rg.BuildOptions(progress=False, allow_empty=True)
    with rg.build([], folder / "index", options=empty) as opened:
        colors = ("red", "green", "blue", "white", "black")
        opened.add([png(color, (320, 240)) for color in colors], ids=colors)
        yield opened


@pytest.fixture(scope="module")
def url(index):
    listener = socket.create_server(("127.0.0.1", 0))
    app = create_app([index], ServiceSettings(token=TOKEN, writable=True))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(60)


@pytest.fixture
def remote(url):
    with rg.connect(url, token=TOKEN) as connected:
        yield connected


def flat(answers):
    return answers if isinstance(answers, rg.Hits) else [hit for hits in answers for hit in hits]


@pytest.mark.parametrize("minimum", [0.0, None, 0.9])
def test_queries_answer_as_those_of_the_index(remote, index, minimum):
    query = rg.Query("a wall", unwanted=("a red wall",), filters=rg.Filters(min_size=0.5))
    for asked in ("a red wall", query, ["a red wall", query, "a dog"]):
        wanted = index.query(asked, top=3, min_probability=minimum)
        found = remote.query(asked, top=3, min_probability=minimum)
        assert type(found) is type(wanted)
        for mine, theirs in zip(flat(wanted), flat(found), strict=True):
            for name, value in mine.as_dict().items():
                if isinstance(value, float):
                    assert getattr(theirs, name) == pytest.approx(value, abs=1e-4)
                else:
                    assert getattr(theirs, name) == value
    assert remote.query([]) == []


def test_thumbs_can_be_set_aside(remote, index):
    hits = index.query("a green wall", top=3, feedback=False)
    thumb = index.feedback.add(hits[0], "down")
    with_thumb = remote.query("a green wall", top=3)
    without = remote.query("a green wall", top=3, feedback=False)
    index.feedback.undo(thumb.id)
    assert [hit.score for hit in without] == pytest.approx([hit.score for hit in hits], abs=1e-4)
    assert [hit.score for hit in with_thumb] != [hit.score for hit in without]


def test_many_phrases_go_in_several_requests(remote):
    phrases = [f"{number} red walls" for number in range(70)]
    assert [hits[0].phrase for hits in remote.query(phrases, top=1)] == phrases


def test_images_of_examples_are_sent(remote, index, tmp_path):
    path = tmp_path / "red.png"
    path.write_bytes(png("red", (320, 240)))
    for image in (path, path.read_bytes()):
        hits = remote.query(rg.Query(like=rg.Example(image, box=(0, 0, 300, 200))), top=1)
        assert hits[0].id == "red"


def test_what_else_an_index_says(remote, index):
    assert len(remote) == len(index) == 5
    assert remote.info()["encoder_fingerprint"] == index.info()["encoder_fingerprint"]
    assert {image["path"] for image in remote.images()} == {image.path for image in index.images()}
    assert remote.skipped() == index.skipped() == []
    hit = remote.query("a red wall", top=1)[0]
    for phrase in (None, "a red wall"):
        mine, theirs = (
            index.regions(hit.content_hash, phrase),
            remote.regions(hit.content_hash, phrase),
        )
        assert [one.as_dict() for one in theirs] == [one.as_dict() for one in mine]
    assert "RemoteIndex" in repr(remote)


def test_phrases_are_grounded(remote):
    wanted = rg.ground(png("gray", (320, 240)), "a wall")
    found = remote.ground(png("gray", (320, 240)), "a wall")
    assert (found.phrase, found.box, found.label) == (wanted.phrase, wanted.box, wanted.label)
    assert len(remote.ground(png("gray", (320, 240)), ["a wall", "a dog"])) == 2


def test_images_are_added_and_removed(remote, index):
    data = png("yellow", (320, 240))
    [added] = remote.add(data, ids=["yellow"], metadata=[{"price": 3}])
    hit = remote.query(rg.Query.parse("a wall where:price=3"))[0]
    assert (hit.id, hit.content_hash, hit.metadata) == (
        "yellow",
        added["content_hash"],
        {"price": 3},
    )
    assert remote.remove(hit.content_hash) == 1
    assert len(index) == 5


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (lambda remote: remote.query(" "), rg.PhraseError),
        (lambda remote: remote.query(rg.Query.parse("a where:nothing=2")), rg.QueryError),
        (lambda remote: remote.ground(b"no image", "a dog"), rg.ImageError),
        (lambda remote: remote.regions("0" * 32), rg.GroundingError),
        (lambda remote: remote.query("a", top=0), rg.GroundingError),
    ],
)
def test_errors_are_those_of_the_library(remote, act, error):
    with pytest.raises(error) as caught:
        act(remote)
    assert str(caught.value)
    if error is rg.ImageError:
        assert caught.value.reason == "not-an-image"


def test_who_does_not_answer_is_named(url):
    with pytest.raises(rg.GroundingError, match="token"):
        rg.connect(url)
    with pytest.raises(rg.GroundingError, match="no index 'other'; it has index"):
        rg.connect(url, token=TOKEN, index="other")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(rg.GroundingError, match="retrieval-grounding serve"):
        rg.connect(f"http://127.0.0.1:{port}")
    with pytest.raises(rg.GroundingError):
        rg.connect("not a url")


def test_threads_that_ask_together_get_their_own_answers(remote, index):
    phrases = [f"a {color} wall" for color in ("red", "green", "blue", "white", "black")] * 8
    wanted = {phrase: index.query(phrase, top=2) for phrase in phrases}
    with ThreadPoolExecutor(16) as pool:
        tops = [1 + number % 2 for number in range(len(phrases))]
        found = list(pool.map(lambda phrase, top: remote.query(phrase, top=top), phrases, tops))
    for phrase, top, hits in zip(phrases, tops, found, strict=True):
        assert [hit.phrase for hit in hits] == [phrase] * top
        assert [hit.image for hit in hits] == [hit.image for hit in wanted[phrase][:top]]
        assert [hit.score for hit in hits] == pytest.approx(
            [hit.score for hit in wanted[phrase][:top]], abs=1e-4
        )
