"""The HTTP API: what each route answers, and what it refuses (issue 19)."""

from __future__ import annotations

import base64
import io
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace

import pytest
from fakes import draw_squares
from PIL import Image
from serving import API, build_squares, png, serving

import retrieval_grounding as rg
from retrieval_grounding.service.api.shapes import hit_values
from retrieval_grounding.service.limits import Limits


@pytest.fixture
def index(photos, tmp_path, models):
    with build_squares(photos, tmp_path / "squares", models) as opened:
        yield opened


@pytest.fixture
def client(index):
    with serving(index) as made:
        yield made


def ask(client, text, **options):
    answer = client.get(f"{API}/query", params={"q": text, "min_probability": 0, **options})
    assert answer.status_code == 200, answer.text
    return answer.json()["answers"][0]


def test_a_query_answers_what_the_index_answers(client, index):
    wanted = index.query("red", top=3)
    answer = ask(client, "red", top=3)
    assert [hit["image"] for hit in answer["hits"]] == [hit.image for hit in wanted]
    assert [tuple(hit["box"]) for hit in answer["hits"]] == [hit.box for hit in wanted]
    assert answer["title"] == "red"
    assert answer["matches"] == wanted[0].matches


def test_hits_have_all_that_the_library_says_of_them(index):
    plain = index.query("red", top=1)[0]
    similar = (rg.Similar("copy.png", "copy"),)
    full = replace(plain, also=(plain,), similar=similar, id="7", metadata={"price": 2})
    for hit in (plain, full):
        values = hit_values(hit)
        assert values.pop("matches") == hit.matches
        for also in values.get("also", []):
            del also["matches"]
        assert values == hit.as_dict()


def test_texts_and_parts_are_the_same_query(client, index):
    parts = {"phrase": "red", "filters": {"labels": ["red"]}, "unique": "copies"}
    request = {"queries": ["red label:red unique:copies", parts], "min_probability": 0}
    first, second = client.post(f"{API}/query", json=request).json()["answers"]
    assert first["hits"] == second["hits"] != []
    assert second["query"] == "red label:red unique:copies"


def test_thumbs_are_followed_unless_the_request_says_no(client, index):
    wanted = index.query("red", top=3, feedback=False)
    index.feedback.add(wanted[0], "down")
    shown = {"true": index.query("red", top=3), "false": wanted}
    assert [hit.score for hit in shown["true"]] != [hit.score for hit in wanted]
    for feedback, hits in shown.items():
        expected = pytest.approx([hit.score for hit in hits], abs=1e-4)
        answer = ask(client, "red", top=3, feedback=feedback)
        assert [hit["score"] for hit in answer["hits"]] == expected
        request = {"queries": ["red"], "top": 3, "min_probability": 0, "feedback": feedback}
        [answer] = client.post(f"{API}/query", json=request).json()["answers"]
        assert [hit["score"] for hit in answer["hits"]] == expected


def test_nothing_matches_is_said(client, index):
    answer = client.get(f"{API}/query", params={"q": "red"}).json()
    assert answer["min_probability"] == rg.MIN_PROBABILITY
    wanted = index.query("red", min_probability=None)
    assert len(answer["answers"][0]["hits"]) == len(wanted)
    assert answer["answers"][0]["matches"] == bool(wanted)


def test_hits_lead_to_their_pictures(client):
    hit = ask(client, "red")["hits"][0]
    sizes = {}
    for name, url in hit["pictures"].items():
        answer = client.get(url)
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["x-content-type-options"] == "nosniff"
        sizes[name] = Image.open(io.BytesIO(answer.content)).size
    width, height = hit["image_size"]
    assert sizes["image"] == sizes["thumbnail"] == (width, height)
    x1, y1, x2, y2 = hit["box"]
    assert sizes["crop"] == (x2 - x1, y2 - y1)
    crop = Image.open(io.BytesIO(client.get(hit["pictures"]["crop"]).content))
    red, green, _ = crop.resize((1, 1)).getpixel((0, 0))
    assert red > 180
    assert green < 60
    tag = answer.headers["etag"]
    assert client.get(url, headers={"If-None-Match": tag}).status_code == 304


def test_a_file_that_has_changed_is_not_shown(client, photos):
    hit = ask(client, "green")["hits"][0]
    draw_squares(photos / "b.png", {"blue": (1, 1, 9, 9)})
    answer = client.get(hit["pictures"]["image"])
    assert (answer.status_code, answer.json()["kind"]) == (404, "not-found")
    assert "changed" in answer.json()["error"]


def test_the_thumbnail_that_was_kept_is_shown_when_the_file_is_gone(photos, tmp_path, models):
    with (
        build_squares(photos, tmp_path / "kept", models, thumbnails=True) as index,
        serving(index) as client,
    ):
        hit = ask(client, "green")["hits"][0]
        (photos / "b.png").unlink()
        for url in hit["pictures"].values():
            assert client.get(url).status_code == 200, url


def test_a_removed_image_is_not_shown(client, index, photos):
    hit = ask(client, "green")["hits"][0]
    index.remove(photos / "b.png")
    assert client.get(hit["pictures"]["image"]).status_code == 404
    assert "b.png" not in [hit["image"] for hit in ask(client, "green")["hits"]]


def test_regions_of_an_image_have_their_scores(client, index):
    hit = index.query("red", top=1)[0]
    url = f"{API}/indexes/squares/images/{hit.content_hash}/regions"
    plain = client.get(url).json()["regions"]
    assert [region["region"] for region in plain] == list(range(len(plain)))
    assert "score" not in plain[0]
    scored = client.get(url, params={"phrase": "red"}).json()
    best = max(scored["regions"], key=lambda region: region["score"])
    assert best["region_id"] == hit.region_id
    assert best["score"] == pytest.approx(hit.score)
    assert scored["paths"] == [hit.image]
    assert client.get(url, params={"phrase": " "}).status_code == 422


def test_an_image_that_is_sent_is_an_example(client, photos):
    data = (photos / "b.png").read_bytes()
    upload = client.post(f"{API}/uploads", content=data)
    assert upload.status_code == 201
    name = upload.json()["upload"]
    assert (upload.json()["width"], upload.json()["height"]) == (80, 60)
    boxed = ask(client, f"like:{name}:31,11,59,39")["hits"]
    assert boxed[0]["image"] == str(photos / "b.png")
    assert boxed[0]["label"] == "green"
    example = {"image": base64.b64encode(data).decode(), "box": [31, 11, 59, 39]}
    sent = {"queries": [{"like": [example]}], "min_probability": 0}
    answer = client.post(f"{API}/query", json=sent).json()["answers"][0]
    assert [hit["region_id"] for hit in answer["hits"]] == [hit["region_id"] for hit in boxed]
    assert client.get(f"{API}/uploads/{name}").headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize("name", ["/etc/passwd", "https://example.org/a.jpg", "a.jpg:1,2,3,4"])
def test_examples_are_no_files_and_no_urls(client, name, photos):
    answer = client.get(f"{API}/query", params={"q": f"like:{name}"})
    assert (answer.status_code, answer.json()["kind"]) == (422, "like")
    upload = {"queries": [{"like": [{"upload": str(photos / "a.png")}]}]}
    assert client.post(f"{API}/query", json=upload).json()["kind"] == "like"


def test_a_region_of_the_index_is_an_example(client, index):
    hit = index.query("green", top=1)[0]
    found = ask(client, f"like:{hit.content_hash}:{hit.region_id}")["hits"]
    assert hit.content_hash not in [one["content_hash"] for one in found]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("query?q=", "QueryError"),
        ("query?q=a+dog+-", "QueryError"),
        ("query?q=red+where:price%3C2", "QueryError"),
        ("query?q=red&top=0", "limit"),
        ("query?q=red&top=100000", "limit"),
        ("query?q=red&candidates=0", "limit"),
        ("query?q=red+top:100000", "limit"),
        ("query?q=red&min_probability=2", "GroundingError"),
        ("query?q=red&top=many", "request"),
        ("query", "request"),
        (f"query?q={'a' * 1001}", "too-long"),
        ("indexes/squares/images?limit=100000", "limit"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(client, path, kind):
    answer = client.get(f"{API}/{path}")
    assert answer.status_code == 422, answer.text
    assert answer.json()["kind"] == kind
    assert "\n" not in answer.json()["error"]
    assert "Traceback" not in answer.text


def test_a_problem_in_a_query_has_its_place(client):
    answer = client.get(f"{API}/query", params={"q": "a dog -"}).json()
    assert answer["position"] == 6


@pytest.mark.parametrize(
    "path",
    [
        "indexes/other",
        "indexes/squares/images/0123456789abcdef0123456789abcdef",
        "indexes/squares/images/%",
        "indexes/squares/thumbnails/..%2f..%2fetc%2fpasswd",
        "indexes/..%2fsquares",
        "uploads/0123456789abcdef0123456789abcdef",
        "query2",
        "query?q=red&index=other",
    ],
)
def test_what_is_not_there_is_404(client, path):
    answer = client.get(f"{API}/{path}")
    assert answer.status_code == 404, answer.text
    assert answer.json()["error"]


def test_prefixes_of_hashes_name_no_picture(client, index):
    hit = index.query("red", top=1)[0]
    url = f"{API}/indexes/squares/images/{hit.content_hash[:8]}"
    assert client.get(url).status_code == 404
    assert client.get(f"{url}/regions").status_code == 404


def test_indexes_say_what_they_hold(client, index):
    facts = client.get(f"{API}/indexes").json()["indexes"]
    assert [(one["name"], one["images"], one["writable"]) for one in facts] == [
        ("squares", 4, False)
    ]
    info = client.get(f"{API}/indexes/squares").json()
    assert info["matcher"] == index.info()["matcher"]
    assert client.get(f"{API}/indexes/squares/skipped").json() == {"skipped": [], "total": 0}
    first = client.get(f"{API}/indexes/squares/images", params={"limit": 3}).json()
    rest = client.get(f"{API}/indexes/squares/images", params={"after": first["next"]}).json()
    paths = [image["path"] for image in first["images"] + rest["images"]]
    assert paths == [image.path for image in index.images()]
    assert rest["next"] is None


def test_indexes_of_one_name_are_told_apart(photos, tmp_path, models):
    with (
        build_squares(photos, tmp_path / "a" / "my index", models) as first,
        build_squares(photos / "a.png", tmp_path / "b" / "my index", models) as second,
        serving(first, second) as client,
    ):
        facts = client.get(f"{API}/indexes").json()["indexes"]
        assert [(one["name"], one["images"]) for one in facts] == [
            ("my-index", 4),
            ("my-index-2", 1),
        ]
        assert len(ask(client, "red", index="my-index-2")["hits"]) == 1


def test_the_service_changes_nothing_unless_it_may(client, index):
    hit = index.query("red", top=1)[0]
    for answer in (
        client.post(f"{API}/indexes/squares/images", content=png("red")),
        client.delete(f"{API}/indexes/squares/images/{hit.content_hash}"),
    ):
        assert (answer.status_code, answer.json()["kind"]) == (403, "read-only")
    assert len(index) == 4


def test_images_are_added_and_removed(tmp_path):
    empty = rg.BuildOptions(progress=False, allow_empty=True)
    with (
        rg.build([], tmp_path / "mine", options=empty) as index,
        serving(index, writable=True) as client,
    ):
        url = f"{API}/indexes/mine/images"
        params = {"id": "mug 7", "metadata": '{"price": 12}'}
        added = client.post(url, content=png("red", (320, 240)), params=params)
        assert added.status_code == 201, added.text
        assert added.json()["outcome"] == "added"
        hit = ask(client, "a red wall where:price<20")["hits"][0]
        assert (hit["id"], hit["metadata"]) == ("mug 7", {"price": 12})
        assert hit["content_hash"] == added.json()["content_hash"]
        again = client.post(url, content=png("red", (320, 240)))
        assert again.json()["outcome"] == "unchanged"
        for data, reason in ((b"", "empty"), (b"no picture", "not-an-image")):
            answer = client.post(url, content=data)
            assert (answer.status_code, answer.json()["reason"]) == (422, reason)
        bad = client.post(url, content=png("blue"), params={"metadata": "[1]"})
        assert bad.json()["kind"] == "MetadataError"
        assert client.delete(f"{url}/{hit['content_hash']}").json() == {"removed": 1}
        assert client.delete(f"{url}/{hit['content_hash']}").status_code == 404
        assert ask(client, "a red wall")["hits"] == []


def test_phrases_are_grounded_in_an_image_that_is_sent(tmp_path):
    empty = rg.BuildOptions(progress=False, allow_empty=True)
    with rg.build([], tmp_path / "mine", options=empty) as index, serving(index) as client:
        data = png("gray", (320, 240))
        answer = client.post(f"{API}/ground", params={"phrase": ["a wall", "a dog"]}, content=data)
        assert answer.status_code == 200, answer.text
        wanted = rg.ground(data, ["a wall", "a dog"])
        assert [hit["score"] for hit in answer.json()["hits"]] == pytest.approx(
            [hit.score for hit in wanted]
        )
        assert client.post(f"{API}/ground", content=data).status_code == 422
        empty_phrase = client.post(f"{API}/ground", params={"phrase": " "}, content=data)
        assert empty_phrase.json()["kind"] == "PhraseError"


def test_a_query_finds_what_a_writer_adds_meanwhile(client, index, photos, models):
    draw_squares(photos / "late.png", {"yellow": (5, 5, 60, 50)})
    build_squares(photos, index.directory, models).close()
    assert ask(client, "yellow", top=1)["hits"][0]["image"] == str(photos / "late.png")


def test_requests_beyond_a_limit_name_it(index):
    limits = Limits(body_bytes=1000, pixels=1000, queries=2)
    with serving(index, limits=limits) as client:
        large = client.post(f"{API}/uploads", content=b"x" * 1001)
        assert (large.status_code, large.json()["limit"]) == (413, 1000)
        streamed = client.post(f"{API}/uploads", content=iter([b"x" * 600, b"x" * 600]))
        assert streamed.status_code == 413
        pixels = client.post(f"{API}/uploads", content=png("red", (40, 26)))
        assert (pixels.status_code, pixels.json()["kind"]) == (413, "too-many-pixels")
        many = client.post(f"{API}/query", json={"queries": ["red"] * 3})
        assert (many.status_code, many.json()["limit"]) == (422, 2)
        assert client.post(f"{API}/query", json={"queries": []}).status_code == 422


def test_requests_that_are_too_many_are_refused_and_the_others_answered(index, monkeypatch):
    go_on = threading.Event()
    query = rg.Index.query

    def slow(self, *args, **options):
        assert go_on.wait(60)
        return query(self, *args, **options)

    monkeypatch.setattr(rg.Index, "query", slow)
    with serving(index, limits=Limits(requests=2)) as client, ThreadPoolExecutor(3) as pool:
        asked = {
            pool.submit(client.get, f"{API}/query", params={"q": color}): color
            for color in ("red", "green", "blue")
        }
        try:
            # Two take the places and wait, so only the third can be answered.
            done, others = wait(asked, return_when=FIRST_COMPLETED)
        finally:
            go_on.set()
        [refused] = done
        busy = refused.result()
        assert busy.status_code == 429
        assert busy.headers["retry-after"] == "1"
        assert busy.json()["limit"] == 2
        answers = {asked[one]: one.result().json()["answers"][0]["title"] for one in others}
        assert answers == {color: color for color in answers}


def test_an_error_that_nobody_expected_is_one_sentence(client, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(rg.Index, "query", fail)
    answer = client.get(f"{API}/query", params={"q": "red"})
    assert (answer.status_code, answer.json()["kind"]) == (500, "internal")
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_metrics_count_requests_by_route(client):
    ask(client, "red")
    client.get(f"{API}/indexes/nowhere")
    client.get("/some/path/of/a/stranger")
    text = client.get(f"{API}/metrics").text
    assert 'rg_requests_total{method="GET",route="/query",status="200"} 1.0' in text
    assert 'status="404"' in text
    assert "stranger" not in text
    assert 'rg_images{index="squares"} 4.0' in text
    assert "rg_batch_phrases_count 1.0" in text


def test_the_service_is_healthy_and_ready(client):
    assert client.get(f"{API}/health").json()["status"] == "ok"
    assert client.get(f"{API}/ready").json()["status"] == "ready"
