"""The page in a real browser: what people see, click and type."""

from __future__ import annotations

import io
import itertools
import re
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pytest
from PIL import Image

from retrieval_grounding.storage.lock import writer_lock

BOX_RED = (0xE6, 0x1E, 0x5A)
PHONE = {"width": 360, "height": 740}
PAGES = {
    "start": "/",
    "results": "/?q=a+bus&p=0",
    "nothing": "/?q=a+submarine&p=95",
    "compare": "/compare?q=a+bus&second=a+tie&p=0",
    "status": "/status",
    "help": "/help",
    "look": "/look",
}


def photo_path(site, phrase: str) -> str:
    [hit] = site.query(phrase, top=1, min_probability=0)
    return f"/photo/{hit['content_hash']}?q={phrase.replace(' ', '+')}&p=0"


def parameters(page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def shown_boxes(page):
    """Return, by image, where the page draws the first box, in pixels of the window."""
    return page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll(".grid > li")].map((card) => {
            const box = card.querySelector("rect.box");
            const to = box.getScreenCTM();
            const at = (x, y) => {
                const point = new DOMPoint(x, y).matrixTransform(to);
                return [point.x, point.y];
            };
            const [x, y, w, h] = ["x", "y", "width", "height"].map((n) => +box.getAttribute(n));
            const image = card.querySelector("img").getBoundingClientRect();
            return [card.id.slice(2), {
                box: [...at(x, y), ...at(x + w, y + h)],
                image: [image.left, image.top, image.width, image.height],
            }];
        }))"""
    )


def expected_box(hit, image) -> list[float]:
    """Return where the box of a hit is if its image covers a rectangle, centered."""
    left, top, width, height = image
    w, h = hit["image_size"]
    scale = max(width / w, height / h)
    x0, y0 = left + (width - w * scale) / 2, top + (height - h * scale) / 2
    x1, y1, x2, y2 = hit["box"]
    return [x0 + x1 * scale, y0 + y1 * scale, x0 + x2 * scale, y0 + y2 * scale]


def drag(page, start, end):
    """Drag from one point of the large photograph to another, in its pixels."""
    points = [
        page.evaluate(
            """([x, y]) => {
                const to = document.querySelector("svg.large").getScreenCTM();
                const point = new DOMPoint(x, y).matrixTransform(to);
                return [point.x, point.y];
            }""",
            list(point),
        )
        for point in (start, end)
    ]
    page.mouse.move(*points[0])
    page.mouse.down()
    page.mouse.move(*points[1], steps=5)
    page.mouse.up()


def test_the_first_page_offers_phrases_that_find_something(opened, shot):
    page = opened()
    shot(page, "start")
    phrase = page.locator(".hero .chip").first
    text = phrase.inner_text()
    phrase.click()
    assert page.locator("h1").inner_text() == text
    assert page.locator(".grid > li").count() > 0


def test_boxes_are_at_the_right_pixels(opened, site, shot):
    page = opened()
    page.fill("#q", "a bus")
    page.press("#q", "Enter")
    page.wait_for_selector(".sure")
    page.goto("/?q=a+bus&p=0&fold=no")
    page.wait_for_load_state("networkidle")
    shot(page, "results")
    hits = {hit["content_hash"]: hit for hit in site.query("a bus", top=20, min_probability=0)}
    shown = shown_boxes(page)
    assert shown.keys() == hits.keys()
    for content_hash, places in shown.items():
        assert places["box"] == pytest.approx(
            expected_box(hits[content_hash], places["image"]), abs=1.0
        )


def test_a_box_is_painted_where_the_api_says(opened, site):
    page = opened("/?q=a+bus&p=0")
    page.wait_for_load_state("networkidle")
    page.mouse.move(0, 0)
    [hit] = site.query("a bus", top=1, min_probability=0)
    card = page.locator(f"#i-{hit['content_hash']}")
    card.scroll_into_view_if_needed()
    place = card.locator("img").bounding_box()
    image = [place["x"], place["y"], place["width"], place["height"]]
    x1, y1, x2, y2 = expected_box(hit, image)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    inside = [  # points on edges that the picture does not cut off
        point
        for point in (((x1 + x2) / 2, y1), ((x1 + x2) / 2, y2), (x1, (y1 + y2) / 2))
        if image[0] + 4 < point[0] < image[0] + image[2] - 4
        and image[1] + 4 < point[1] < image[1] + image[3] - 4
    ]
    assert inside
    for x, y in inside:
        around = itertools.product((-1, 0, 1), repeat=2)
        near = [picture.getpixel((round(x) + dx, round(y) + dy)) for dx, dy in around]
        assert min(sum(abs(a - b) for a, b in zip(p, BOX_RED, strict=True)) for p in near) < 60


def test_a_caption_has_phrase_and_probability(opened, site):
    page = opened("/?q=a+bus&p=0")
    [hit] = site.query("a bus", top=1, min_probability=0)
    caption = page.locator(f"#i-{hit['content_hash']} figcaption").inner_text()
    assert "a bus" in caption
    assert f"{hit['image_probability']:.0%}" in caption


def test_a_photograph_opens_with_all_its_regions(opened, site, shot):
    page = opened("/?q=a+bus&p=0")
    page.locator(".shot").first.click()
    page.wait_for_selector("svg.large")
    shot(page, "photograph")
    content_hash = urlsplit(page.url).path.rpartition("/")[2]
    known = site.api(f"/indexes/pictures/images/{content_hash}/regions", phrase="a bus")["regions"]
    assert page.locator(".regions a").count() == len(known)
    best = max(known, key=lambda region: region["score"])
    marked = page.locator(".regions a[aria-current]")
    assert marked.get_attribute("data-region") == str(best["region"])
    shown = page.locator(f'svg.large [data-region="{best["region"]}"] rect:not(.halo)')
    x1, y1, x2, y2 = best["box"]
    sides = [float(shown.get_attribute(name)) for name in ("x", "y", "width", "height")]
    assert sides == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=0.2)
    # The probability of the grid is that of the page of the photograph.
    [hit] = site.query("a bus", top=1, min_probability=0)
    assert page.locator(".big b").first.inner_text() == f"{hit['image_probability']:.0%}"


def test_list_and_photograph_point_at_each_other(opened, site):
    page = opened(photo_path(site, "a bus"))
    row = page.locator(".regions a:not([aria-current])").nth(2)
    number = row.get_attribute("data-region")
    row.hover()
    area = page.locator(f'svg.large [data-region="{number}"]')
    assert "near" in area.get_attribute("class")
    page.mouse.move(0, 0)
    assert "near" not in area.get_attribute("class")


def test_what_is_in_a_region_is_found_elsewhere(opened, site, shot):
    page = opened(photo_path(site, "a bus"))
    own = urlsplit(page.url).path.rpartition("/")[2]
    page.locator(".regions a").nth(1).click()
    page.wait_for_url(re.compile("region="))
    page.click("text=Find this elsewhere")
    page.wait_for_selector(".grid > li")
    shot(page, "alike")
    assert parameters(page)["f"][0].startswith(f"like:{own}:")
    assert page.locator(f"#i-{own}").count() == 0
    assert page.locator(".ask .seen").is_visible()
    page.fill("#q", "a person")
    page.press("#q", "Enter")
    page.wait_for_url(re.compile("q=a"))
    assert parameters(page)["f"][0].startswith(f"like:{own}:")  # both count


def test_a_drawn_box_is_a_query(opened, site):
    page = opened(photo_path(site, "a bus"))
    own = urlsplit(page.url).path.rpartition("/")[2]
    page.wait_for_load_state("networkidle")
    page.click("[data-tool=draw]")
    drag(page, (100, 150), (300, 500))
    page.click("[data-drawn]")
    page.wait_for_selector(".grid > li")
    [clause] = parameters(page)["f"]
    drawn = [float(value) for value in clause.removeprefix(f"like:{own}:").split(",")]
    assert drawn == pytest.approx([100, 150, 300, 500], abs=3)
    assert page.locator(f"#i-{own}").count() == 0


@pytest.mark.parametrize("way", ["choose", "drop", "paste"])
def test_a_picture_is_a_query(opened, site, way):
    file = site.photos / "garden" / "flower.jpg"
    page = opened("/")
    if way == "choose":
        page.set_input_files("#picture input[type=file]", str(file))
    else:
        page.evaluate(
            """async ([name, kind]) => {
                const answer = await fetch(name);
                const data = new DataTransfer();
                const type = "image/jpeg";
                data.items.add(new File([await answer.blob()], "flower.jpg", { type }));
                const event = kind === "drop"
                    ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
                    : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
                document.body.dispatchEvent(event);
            }""",
            [thumbnail_of(site, "flower.jpg"), way],
        )
    page.wait_for_selector(".ask .seen")
    assert "like:" in unquote(page.url)
    assert "flower.jpg" in page.locator(".grid > li").first.inner_text()


def thumbnail_of(site, name: str) -> str:
    found = next(image for image in site.index.images() if image.path.endswith(name))
    return f"/api/v1/indexes/pictures/thumbnails/{found.content_hash}"


def test_filters_are_links_and_chips_and_back_works(opened, shot):
    page = opened("/?q=a+person&p=0")
    before = page.locator(".grid > li").count()
    page.click(".facets summary:has-text('Folder')")
    choice = page.locator(".facets .panel a:has-text('garden')")
    count = int(choice.locator(".number").inner_text())
    shot(page, "filters")
    choice.click()
    page.wait_for_selector(".facets .chip")
    assert 0 < count < before
    assert page.locator(".grid > li").count() == count
    assert parameters(page)["f"][0].endswith("garden")
    page.go_back()
    page.wait_for_selector(".facets .chip", state="detached")
    assert page.locator(".grid > li").count() == before
    page.go_forward()
    page.click(".facets .chip")
    page.wait_for_selector(".facets .chip", state="detached")
    assert page.locator(".grid > li").count() == before


def test_filters_that_are_typed_become_chips(opened):
    page = opened()
    page.fill("#q", "a person -folder:garden size:>1% p:>0.01")
    page.press("#q", "Enter")
    page.wait_for_selector(".sure")
    assert page.locator("#q").input_value() == "a person"
    assert page.locator(".facets .chip").all_inner_texts() == ["no folder garden", "size >1%"]
    assert page.locator(".sure output").inner_text() == "1%"


def test_the_slider_ends_at_nothing_here_matches_and_leads_back(opened, site, shot):
    page = opened("/?q=a+bus")
    slider = page.locator("#p")
    slider.focus()
    page.keyboard.press("End")
    page.wait_for_url(re.compile("p=95"))
    if site.query("a bus", top=1, min_probability=0)[0]["image_probability"] < 0.95:
        assert page.locator("text=Nothing here matches.").is_visible()
    page.goto("/?q=a+submarine&p=95")
    shot(page, "nothing")
    assert page.locator("text=Nothing here matches.").is_visible()
    assert page.locator(".faint .grid > li").count() > 0
    page.locator(".nothing .button.main").click()
    page.wait_for_selector("[data-hits]:not(.faint)")
    assert page.locator(".grid > li").count() > 0


def test_near_duplicates_are_folded_and_can_be_unfolded(opened, shot):
    page = opened("/?q=a+bus&p=0")
    assert page.locator(".stack").all_inner_texts() == ["2 alike"]
    count = page.locator(".grid > li").count()
    page.click("text=Show all that look alike")
    page.wait_for_url(re.compile("fold=no"))
    assert page.locator(".grid > li").count() == count + 1
    page.click("text=Fold what looks alike")
    page.locator(".grid > li:has(.stack) .shot").click()
    page.wait_for_selector(".alike img")
    assert page.locator(".alike img").count() == 1


def test_two_phrases_side_by_side(opened, shot):
    page = opened("/compare")
    page.fill("#one", "a bus")
    page.fill("#other", "a tie")
    page.click("text=Compare >> nth=-1")
    page.wait_for_selector(".pair .grid")
    shot(page, "compare")
    assert page.locator(".pair h2").all_inner_texts() == ["a bus", "a tie"]
    page.locator(".pair section:nth-child(2) .shot").first.click()
    page.wait_for_selector("svg.large")
    assert page.locator("#second").input_value() == "a bus"
    assert page.locator("svg.large .two").count() <= 1


def test_also_wanted_things_have_a_box_of_their_own(opened):
    page = opened("/?q=a+bus+%2Bperson&p=0")
    assert page.locator(".grid > li").first.locator("rect.box").count() == 2


def test_the_keyboard_is_enough(opened):
    page = opened("/?q=a+person&p=0")
    page.keyboard.press("/")
    page.keyboard.type("a bus")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("q=a[+]bus"))
    page.keyboard.press("?")
    assert page.locator("dialog").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    second = page.locator(".grid > li").nth(1).get_attribute("id")
    assert page.evaluate("document.activeElement.closest('li').id") == second
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/photo/"))
    assert page.url.split("?")[0].endswith(second.removeprefix("i-"))
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.matches('.regions a')")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(lambda url: second.removeprefix("i-") not in url)
    page.keyboard.press("Escape")
    page.wait_for_selector(".grid")
    first = page.locator(".grid > li").first.get_attribute("id")
    page.wait_for_selector(f"#{first} .shot:focus")


def test_thumbs_are_kept_shown_and_undone(opened, site, shot):
    page = opened("/?q=a+bus&p=0")
    card = page.locator(".grid > li").first
    up, down = card.locator(".thumb").nth(0), card.locator(".thumb").nth(1)
    assert page.locator("#taught").count() == 0
    up.click()
    page.wait_for_selector("#thanks:not([hidden])")
    assert up.get_attribute("aria-pressed") == "true"
    [entry] = site.index.feedback.entries("a bus")
    [hit] = site.query("a bus", top=1, min_probability=0)
    assert (entry.verdict, entry.content_hash) == ("up", hit["content_hash"])
    down.click()
    card.locator("form:nth-child(2) [aria-pressed=true]").wait_for()
    card.locator("form:nth-child(1) [aria-pressed=false]").wait_for()
    assert [one.verdict for one in site.index.feedback.entries("a bus")] == ["down"]
    page.click("text=Answer again")
    page.wait_for_selector("#taught")
    shot(page, "taught")
    assert "follows 1 thumb for “a bus”" in page.locator("#taught").inner_text()
    page.click("text=Show the answer without")
    page.wait_for_url(re.compile("taught=no"))
    page.click("text=Follow them")
    page.wait_for_selector("#taught form")
    page.click("text=Undo")
    page.wait_for_selector("#taught", state="detached")
    assert site.index.feedback.entries("a bus") == []


def test_a_better_box_is_dragged(opened, site):
    page = opened(photo_path(site, "a bus"))
    page.wait_for_load_state("networkidle")
    [hit] = site.query("a bus", top=1, min_probability=0)
    x1, y1, x2, y2 = hit["box"]
    page.click("[data-tool=adjust]")
    drag(page, (x2 - 1, y2 - 1), (x2 - 60, y2 - 80))
    page.click("text=This is the box")
    page.wait_for_selector("#taught")
    [entry] = site.index.feedback.entries("a bus")
    assert entry.verdict == "up"
    assert entry.box == pytest.approx((x1, y1, x2 - 60, y2 - 80), abs=3)
    page.click("text=Undo")
    page.wait_for_selector("#taught", state="detached")


def test_thumbs_need_no_script_and_no_other_site_can_give_them(opened, site):
    page = opened("/?q=a+tie&p=0", java_script_enabled=False)
    page.locator(".thumb").first.click()
    page.wait_for_selector("#taught")
    assert "follows 1 thumb" in page.locator("#taught").inner_text()
    [entry] = site.index.feedback.entries("a tie")
    form = {"q": "a tie", "image": entry.content_hash, "box": "0,0,20,20", "verdict": "down"}
    elsewhere = {"Origin": "https://elsewhere.example"}
    assert httpx.post(f"{site.url}/teach", data=form, headers=elsewhere).status_code == 403
    wrong = form | {"verdict": "sideways"}
    assert httpx.post(f"{site.url}/teach", data=wrong).status_code == 422
    assert site.index.feedback.entries("a tie") == [entry]
    page.click("text=Undo")
    page.wait_for_selector("#taught", state="detached")


@pytest.mark.slow
@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_nothing_is_wider_than_a_phone(opened, site, shot, script):
    pages = PAGES | {"photo": photo_path(site, "a bus")}
    page = opened("/help", viewport=PHONE, java_script_enabled=script, has_touch=True)
    widths = {}
    for name, path in pages.items():
        page.goto(path)
        if script:
            shot(page, f"phone-{name}")
        widths[name] = page.evaluate("document.documentElement.scrollWidth")
    assert {name: width for name, width in widths.items() if width > PHONE["width"]} == {}


def test_everything_works_without_a_script(opened, site, shot):
    page = opened("/", java_script_enabled=False)
    page.fill("#q", "a bus")
    page.click(".ask .go")
    page.wait_for_selector(".sure")
    page.click(".sure button")  # the slider has a button
    page.goto("/?q=a+person&p=0")
    shot(page, "no-script")
    page.click(".facets summary:has-text('Folder')")
    page.click(".facets .panel a:has-text('people')")
    page.wait_for_selector(".facets .chip")
    page.locator(".shot").first.click()
    page.wait_for_selector("svg.large")
    page.locator(".regions a").last.click()
    page.wait_for_url(re.compile("region="))
    page.click("text=Find this elsewhere")
    page.wait_for_selector(".grid > li")
    page.click(".ask [data-pick]")  # leads to a form
    page.set_input_files("#chosen", str(site.photos / "garden" / "flower.jpg"))
    page.click(".upload button")
    page.wait_for_selector(".grid > li")
    assert "flower.jpg" in page.locator(".grid > li").first.inner_text()
    page.click(".links >> text=?")
    assert page.locator("h2:has-text('How to ask')").first.is_visible()


def test_a_query_that_is_wrong_is_explained_where_it_is(opened, shot):
    page = opened("/?q=a+dog+size:5%25", expected=("422", "404"))
    shot(page, "problem")
    assert "size:>5%" in page.locator(".nothing").inner_text()
    assert page.locator("mark").inner_text() == "s"
    page.goto("/photo/" + "0" * 32)
    assert page.locator("text=There is nothing here").is_visible()


def test_the_collection_can_be_switched(opened):
    page = opened("/?q=a+flower&p=0")
    page.click(".links summary")
    page.click(".links .panel >> text=garden")
    page.wait_for_url(re.compile("index=garden"))
    assert page.locator("h1").inner_text() == "a flower"
    assert page.locator(".grid > li").count() == 2


def test_the_status_page_follows_a_build(opened, site, shot, tmp_path):
    page = opened("/status")
    shot(page, "status")
    first = page.locator(".holding").first
    assert first.locator(".figures dd").first.inner_text() == str(len(site.index))
    first.locator("summary").click()
    [skipped] = site.index.skipped()
    assert skipped.detail in first.inner_text()
    assert "vector search on cpu" in first.inner_text()
    with writer_lock(site.index.directory):
        first.locator("text=Being written").wait_for()
    first.locator("text=Being written").wait_for(state="detached")
    file = tmp_path / "navy.png"
    Image.new("RGB", (320, 200), "navy").save(file)
    site.index.add([file])
    try:
        count = str(len(site.index))
        first.locator(f".figures dd:text-is('{count}')").first.wait_for()
    finally:
        site.index.remove([file])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PAGES, "photo"])
def test_axe_finds_nothing_serious(opened, site, shot, name):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-core")
    path = PAGES.get(name) or photo_path(site, "a bus")
    page = opened(path, bypass_csp=True)  # axe is a script of the test
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        shot(page, f"{scheme}-{name}")
        results = axe.Axe().run(page)
        grave = [
            (scheme, found["id"], [node["html"][:120] for node in found["nodes"]][:3])
            for found in results.response["violations"]
            if found["impact"] in ("serious", "critical")
        ]
        assert grave == []


def test_the_pages_say_what_may_run(site):
    policy = httpx.get(site.url).headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
