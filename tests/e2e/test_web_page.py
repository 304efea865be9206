"""The page in a real browser, served by a real host with real speakers: steered, lost, found again, and misused."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
from house import House
from pages import DESKTOP, PHONE, SMALL_PHONE, Song, chromium, context_of, new_link, signed_in, write_songs

import musicsyncd

MARKUP = "<img src=x onerror=alert(1)><b>loud</b>"
SONGS = [
    Song("Slow Tide", "Marta Linde", "Low Water"),
    Song("Lanterns", "Marta Linde", "Low Water"),
    Song("A Field, Early", "Marta Linde", "Low Water"),
    Song(MARKUP, "Markup & Sons", "<script>alert(2)</script>"),
    Song("Ember", "Ida Holm", "Ember Days"),
]
MAX_PAGE_BYTES = 150_000
VIEWS = ("playing", "queue", "find", "speakers")


@pytest.fixture(scope="module")
def home():
    made = House(Path("no speaker of this house has a card"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def music(home):
    return write_songs(home.folder / "music", SONGS)


@pytest.fixture(scope="module")
def host(home, music):
    """A host with two rooms, a library, and two speakers without cards."""
    started = home.host("--library", str(home.folder / "music"))
    home.until("the library is known", lambda: home.client.get("/api/library")["scan"]["looked_s_ago"] is not None)
    home.client.post("/api/rooms", {"name": "kitchen"})
    for name in ("shelf", "window"):
        home.peer(name, "--output", "null")
    home.until("the speakers are there", lambda: len(home.status()["peers"]) == 2)
    return started


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def calm(home, host, music):
    """The house as every test finds it: all songs queued, nothing plays, all speakers in one room."""
    client = home.client
    client.post("/api/rooms/main/stop")
    client.post("/api/rooms/main/queue/clear")
    client.post("/api/rooms/main/queue/add", {"tracks": [str(path) for path in music]})
    client.post("/api/rooms/main/volume", {"volume": "50"})
    for name in ("shelf", "window"):
        client.post(f"/api/peers/{name}/room", {"room": "main"})
        client.post(f"/api/peers/{name}/volume", {"volume": "100"})
    return home


@pytest.fixture
def opened(calm, browser):
    """Open pages, each in a browser of its own; whatever a page complains of fails the test."""
    contexts, complaints = [], []

    def open_page(role="control", size=DESKTOP, scheme="light"):
        contexts.append(context_of(browser, size, scheme))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"a dialog: {dialog.message}"))
        page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
        page.link = new_link(calm, role)
        return signed_in(page, page.link)

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def titles(page):
    return page.locator("#entries .line-title").all_text_contents()


def queue(home, room="main"):
    return [entry["title"] for entry in home.client.get(f"/api/rooms/{room}/queue")["entries"]]


def row(page, title):
    return page.locator("#entries .entry").filter(has_text=title)


def drag(page, handle, to_x, to_y, *, let_go=True):
    """Drag by a handle with the mouse, in steps as a hand does."""
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(to_x, to_y, steps=8)
    if let_go:
        page.mouse.up()


def drag_to_row(page, title, target, *, let_go=True):
    box = row(page, target).bounding_box()
    drag(page, row(page, title).locator(".grip"), box["x"] + 20, box["y"] + box["height"] * 0.6, let_go=let_go)


def plays(home, room="main"):
    return home.room(room)["mode"] == "playing"


def test_the_page_is_small_and_asks_nobody_else(opened):
    files = [path for path in (Path(musicsyncd.__file__).parent / "web").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MAX_PAGE_BYTES
    asked = []
    page = opened()
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.wait_for_selector("#rooms .room")
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith(page.url)] == []


# -- signing in ----------------------------------------------------------------------------------


def test_a_link_signs_in_and_leaves_no_token_anywhere(opened):
    page = opened()
    assert page.evaluate("location.hash") == ""
    assert page.evaluate("document.cookie") == ""  # HttpOnly
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, location.href, history.length])")
    assert page.link.token not in stored
    page.reload()
    page.wait_for_selector("#rooms .room")


def test_without_a_link_or_with_a_wrong_one_the_page_says_where_to_get_one(calm, browser):
    context = context_of(browser)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{calm.port}/")
    page.get_by_role("heading", name="This page needs a link").wait_for()
    assert "musicsyncd link" in page.locator("#gate").inner_text()
    assert not page.locator("#app").is_visible()
    page.goto(f"http://127.0.0.1:{calm.port}/#{'A' * 26}")
    page.get_by_role("heading", name="This link is not taken").wait_for()
    page.get_by_label("Link or token").fill("nonsense")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("That is no link of musicsyncd").wait_for()
    page.get_by_label("Link or token").fill(new_link(calm).url)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector("#rooms .room")
    context.close()


def test_a_link_that_is_revoked_while_its_page_is_open_ends_it_at_once_and_says_so(calm, opened):
    page, other = opened(), opened()
    calm.client.delete(f"/api/links/{page.link.id}")
    page.get_by_role("heading", name="This page was signed out").wait_for(timeout=3000)
    assert "revoked" in page.locator("#gate-text").inner_text()
    assert other.locator("#app").is_visible()


def test_signing_out_needs_a_link_again(opened):
    page = opened()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="This page needs a link").wait_for()
    assert page.context.cookies() == []


# -- what plays ----------------------------------------------------------------------------------


def test_play_pause_next_and_previous(calm, opened):
    page = opened()
    page.get_by_role("button", name="Play", exact=True).first.click()
    calm.until("it plays", lambda: plays(calm))
    page.locator("#playing-title", has_text="Slow Tide").wait_for()
    before = page.locator("#elapsed").inner_text()
    page.wait_for_function("before => document.querySelector('#elapsed').textContent !== before", arg=before)
    page.get_by_role("button", name="Next", exact=True).first.click()
    page.locator("#playing-title", has_text="Lanterns").wait_for()
    page.get_by_role("button", name="Previous", exact=True).click()
    page.locator("#playing-title", has_text="Slow Tide").wait_for()
    page.get_by_role("button", name="Pause", exact=True).first.click()
    calm.until("it is paused", lambda: calm.room()["mode"] == "paused")
    page.get_by_role("button", name="Play", exact=True).first.wait_for()


def test_the_cover_is_shown_and_has_a_name(calm, opened):
    page = opened()
    calm.jump(1)
    page.locator("#cover:not([hidden])").wait_for()
    assert page.locator("#cover").evaluate("image => image.naturalWidth") == 640
    assert page.locator("#cover").get_attribute("alt").startswith("Cover of")


def test_seek_by_dragging_and_by_keys(calm, opened):
    page = opened()
    calm.jump(1)
    page.locator("#playing-title", has_text="Slow Tide").wait_for()
    slider = page.get_by_role("slider", name="Position in the track")
    box = slider.bounding_box()
    page.mouse.move(box["x"] + 10, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=8)
    assert calm.room()["position_s"] < 15, "nothing is sent before the hand lets go"
    page.mouse.up()
    calm.until("it is in the middle", lambda: 28 < calm.room()["position_s"] < 40)
    calm.client.post("/api/rooms/main/pause")
    page.get_by_role("button", name="Play", exact=True).first.wait_for()
    page.wait_for_timeout(500)
    before = calm.room()["position_s"]
    slider.focus()
    page.keyboard.press("ArrowRight")
    calm.until("it is 5 s on", lambda: 3.5 < calm.room()["position_s"] - before < 6.5)
    page.keyboard.press("PageDown")
    calm.until("it is 30 s back", lambda: -28 < calm.room()["position_s"] - before < -20)
    assert re.fullmatch(r"(\d+ seconds?) of 1 minute", slider.get_attribute("aria-valuetext"))


def test_volumes_of_the_room_and_of_a_speaker(calm, opened):
    page = opened()
    room = page.get_by_role("slider", name="Volume of the room")
    room.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    calm.until("the room is louder", lambda: calm.room()["volume"] == 52)
    speaker = page.get_by_role("slider", name="Volume of shelf")
    speaker.scroll_into_view_if_needed()
    box = speaker.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.3, box["y"] + box["height"] / 2)
    calm.until("the speaker is softer", lambda: 25 <= calm.speaker("shelf")["volume"] <= 35)
    page.get_by_role("button", name="Mute shelf").click()
    calm.until("the speaker is muted", lambda: calm.speaker("shelf")["muted"])
    page.get_by_role("button", name="Unmute shelf").click()
    calm.until("it is heard again", lambda: not calm.speaker("shelf")["muted"])


def test_a_slider_is_not_moved_by_others_while_a_hand_holds_it(calm, opened):
    page = opened()
    slider = page.get_by_role("slider", name="Volume of the room")
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    calm.client.post("/api/rooms/main/volume", {"volume": "5"})
    page.wait_for_timeout(400)
    assert 45 < int(slider.input_value()) < 55
    page.mouse.up()


# -- the queue -----------------------------------------------------------------------------------


def test_the_queue_is_reordered_by_dragging_and_by_keys(calm, opened):
    page = opened()
    row(page, "Ember").wait_for()
    drag_to_row(page, "Slow Tide", "A Field")
    wanted = ["Lanterns", "A Field, Early", "Slow Tide", MARKUP, "Ember"]
    calm.until("it was moved", lambda: queue(calm) == wanted)
    page.wait_for_function("() => document.querySelector('#entries .line-title').textContent === 'Lanterns'")
    assert titles(page) == wanted
    grip = row(page, "Ember").locator(".grip")
    grip.focus()
    for _ in range(3):
        page.keyboard.press("ArrowUp")
    wanted = ["Lanterns", "Ember", "A Field, Early", "Slow Tide", MARKUP]
    calm.until("it was moved by keys", lambda: queue(calm) == wanted)
    assert grip.evaluate("grip => grip === document.activeElement")
    row(page, "Ember").get_by_role("button", name="More for").click()
    row(page, "Ember").get_by_role("button", name="Down").click()
    calm.until("it was moved by a button", lambda: queue(calm)[2] == "Ember")


def test_dragging_is_broken_off_by_escape(calm, opened):
    page = opened()
    row(page, "Ember").wait_for()
    before = queue(calm)
    drag_to_row(page, "Slow Tide", "Ember", let_go=False)
    assert page.locator(".entry.lifted").count() == 1
    page.keyboard.press("Escape")
    page.mouse.up()
    assert page.locator(".entry.lifted").count() == 0
    page.wait_for_timeout(300)
    assert queue(calm) == titles(page) == before


def test_what_is_removed_comes_back_with_undo(calm, opened):
    page = opened()
    before = queue(calm)
    row(page, "Lanterns").get_by_role("button", name="More for").click()
    row(page, "Lanterns").get_by_role("button", name="Remove").click()
    calm.until("it is gone", lambda: "Lanterns" not in queue(calm))
    page.locator(".toast").get_by_role("button", name="Undo").click()
    calm.until("it is back", lambda: queue(calm) == before)
    page.get_by_role("button", name="Clear", exact=True).click()
    calm.until("all is gone", lambda: queue(calm) == [])
    page.get_by_text("The queue is empty. Find something").wait_for()
    page.locator(".toast").get_by_role("button", name="Undo").click()
    calm.until("all is back", lambda: queue(calm) == before)
    row(page, "Ember").wait_for()


def test_undo_is_offered_no_more_once_somebody_else_changes_the_queue(calm, opened):
    page = opened()
    row(page, "Lanterns").get_by_role("button", name="More for").click()
    row(page, "Lanterns").get_by_role("button", name="Remove").click()
    offer = page.locator(".toast").get_by_role("button", name="Undo")
    offer.wait_for()
    calm.client.post("/api/rooms/main/queue/move", {"from": 1, "to": 2})
    offer.wait_for(state="detached", timeout=5000)  # It goes by itself after twelve seconds.


def test_of_two_people_who_drag_one_track_the_second_is_told_and_nothing_is_lost(calm, opened):
    mine, theirs = opened(), opened()
    for page in (mine, theirs):
        row(page, "Ember").wait_for()
    drag_to_row(mine, "Lanterns", "Ember", let_go=False)
    drag_to_row(theirs, "Lanterns", "Slow Tide")
    wanted = ["Lanterns", "Slow Tide", "A Field, Early", MARKUP, "Ember"]
    calm.until("theirs counts", lambda: queue(calm) == wanted)
    mine.wait_for_timeout(300)
    mine.mouse.up()
    alert = mine.locator("#alerts .toast")
    alert.wait_for()
    assert "Not done" in alert.inner_text()
    assert "Lanterns" in alert.inner_text()
    assert queue(calm) == wanted
    mine.wait_for_function("() => document.querySelector('#entries .line-title').textContent === 'Lanterns'")
    assert titles(mine) == wanted


def test_a_long_queue_is_shown_in_parts(calm, opened, music):
    for _ in range(3):
        calm.client.post("/api/rooms/main/queue/add", {"tracks": [str(path) for path in music] * 20})
    page = opened()
    page.locator("#later").wait_for()
    assert page.locator("#entries .entry").count() == 120
    page.locator("#later").click()
    page.wait_for_function("() => document.querySelectorAll('#entries .entry').length === 305")


# -- the library ---------------------------------------------------------------------------------


def test_what_is_found_is_added_and_played(calm, opened):
    page = opened()
    calm.client.post("/api/rooms/main/queue/clear")
    page.get_by_role("searchbox", name="Search the library").fill("lant")
    page.get_by_role("button", name="Add “Lanterns” to the queue").click()
    calm.until("it is in the queue", lambda: queue(calm) == ["Lanterns"])
    page.locator("#toasts", has_text="Added “Lanterns”").wait_for()
    page.get_by_role("searchbox").fill("ember")
    page.get_by_role("button", name="Play album “Ember Days” now").click()
    calm.until("it plays", lambda: plays(calm) and calm.room()["track"]["title"] == "Ember")
    page.get_by_role("searchbox").fill("xyzzy")
    page.get_by_text("Nothing found for “xyzzy”").wait_for()


def test_markup_in_tags_is_shown_as_text(calm, opened):
    page = opened()
    calm.jump(4)
    page.locator("#playing-title", has_text="loud").wait_for()
    page.get_by_role("searchbox").fill("loud")
    page.locator("#tracks .found").wait_for()
    assert page.locator("#playing-title").inner_text() == MARKUP
    assert MARKUP in titles(page)
    assert page.locator("#tracks .line-title").inner_text() == MARKUP
    for markup in ("img[src='x']", "b", "script:not([src])"):
        assert page.locator(f"#app {markup}").count() == 0, markup


# -- rooms and speakers --------------------------------------------------------------------------


def test_a_speaker_is_moved_by_dragging_and_by_choosing(calm, opened):
    page = opened()
    card = page.locator(".speaker").filter(has_text="shelf")
    card.wait_for()
    target = page.locator("[data-room=kitchen]")
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    drag(page, card.locator(".grip"), box["x"] + 60, box["y"] + 30)
    calm.until("it is in the kitchen", lambda: calm.speaker("shelf")["room"] == "kitchen")
    page.locator("[data-room=kitchen] .speaker").filter(has_text="shelf").wait_for()
    page.get_by_role("button", name="Details of window").click()
    page.locator(".speaker").filter(has_text="window").get_by_role("combobox", name="Room", exact=True).select_option(
        "kitchen"
    )
    calm.until("both are there", lambda: calm.speaker("window")["room"] == "kitchen")


def test_a_speakers_settings_and_figures_are_one_tap_away(calm, opened):
    page = opened()
    calm.jump(1)
    calm.together("shelf", "window")
    card = page.locator(".speaker").filter(has_text="shelf")
    card.locator(".state", has_text="together").wait_for()
    page.locator("#harmony", has_text="2 speakers together").wait_for()
    card.get_by_text("over the last").wait_for()
    assert not card.locator(".figures").is_visible()
    page.get_by_role("button", name="Details of shelf").click()
    assert re.search(r"Round trip\n[\d.]+ (µs|ms)", card.locator(".figures").inner_text())
    card.get_by_label("Channels").select_option("mono")
    delay = card.get_by_label("Output delay, ms")
    delay.fill("12.5")
    delay.press("Enter")
    calm.until("both are kept", lambda: calm.speaker("shelf")["output_delay_ms"] == 12.5)
    assert calm.speaker("shelf")["channels"] == "mono"
    delay.fill("0")
    delay.press("Enter")
    calm.until("no delay", lambda: calm.speaker("shelf")["output_delay_ms"] == 0)


def test_rooms_are_made_shown_and_removed(calm, opened):
    page = opened()
    page.get_by_label("New room").fill("bath & <b>")
    page.get_by_role("button", name="Make").click()
    room = page.get_by_role("region", name="Room bath & <b>")
    room.wait_for()
    name = room.get_attribute("data-room")
    room.get_by_role("button", name=name, exact=True).click()
    assert page.get_by_role("combobox", name="Room", exact=True).first.input_value() == name
    page.get_by_text("The queue is empty.").wait_for()
    page.get_by_role("button", name=f"Settings of {name}").click()
    room.get_by_role("button", name="Remove room").click()
    room.get_by_role("button", name="Really remove?").click()
    room.wait_for(state="detached")
    assert page.get_by_role("combobox", name="Room", exact=True).first.input_value() == "main"


# -- who may do what -----------------------------------------------------------------------------


def test_a_guest_adds_and_does_nothing_else(calm, opened):
    page = opened("guest")
    row(page, "Ember").wait_for()
    for name in ("Play", "Next", "Clear", "Undo", "Make"):
        assert page.get_by_role("button", name=name, exact=True).count() == 0, name
    assert page.locator("#entries button").count() == 0
    assert page.locator("input[type=range]:enabled:visible:not(#play-here *)").count() == 0
    page.get_by_role("searchbox").fill("lant")
    page.get_by_role("button", name="Add “Lanterns” to the queue").click()
    calm.until("it was added", lambda: queue(calm)[-1] == "Lanterns" and len(queue(calm)) == 6)
    assert page.get_by_role("button", name="Play “Lanterns” now").count() == 0
    assert refusal(page, "next", {}) == 403
    assert refusal(page, "queue/add", {"search": "lant", "next": True}) == 403


def test_a_listener_only_looks(calm, opened):
    page = opened("listen")
    row(page, "Ember").wait_for()
    page.get_by_role("searchbox").fill("lant")
    page.locator("#tracks .found").wait_for()
    assert page.locator("#tracks button").count() == 0
    assert refusal(page, "queue/add", {"search": "lant"}) == 403


def refusal(page, command, body):
    """Return how the host answers a command for which the page has no button."""
    ask = "([command, body]) => fetch(`/api/rooms/main/${command}`, {method: 'POST', body}).then(r => r.status)"
    return page.evaluate(ask, [command, json.dumps(body)])


# -- on a phone, and for everybody ---------------------------------------------------------------


@pytest.mark.parametrize("size", [SMALL_PHONE, PHONE, (844, 390), (820, 1180)])
def test_nothing_is_wider_than_the_screen(calm, opened, size):
    page = opened(size=size)
    calm.jump(4)
    page.locator("#playing-title", has_text="loud").wait_for()
    for view in VIEWS if size[0] < 760 else ("playing",):
        if size[0] < 760:
            page.locator(f"[data-show={view}]").tap()
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0], view


def test_a_phone_has_the_transport_and_the_parts_under_the_thumb(calm, opened):
    page = opened(size=SMALL_PHONE)
    calm.jump(1)
    page.locator("#playing-title", has_text="Slow Tide").wait_for()
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight"), "all of what plays fits"
    box = page.locator("#play").bounding_box()
    assert box["y"] + box["height"] / 2 > 640 / 2
    assert min(box["width"], box["height"]) >= 60
    page.locator("[data-show=queue]").tap()
    page.locator("#mini-play").tap()
    calm.until("it is paused", lambda: calm.room()["mode"] == "paused")
    small = page.evaluate(
        "[...document.querySelectorAll('button, select')].filter(e => e.checkVisibility())"
        ".filter(e => e.getBoundingClientRect().height < 36).map(e => e.outerHTML)"
    )
    assert small == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_finger_drags_a_track(calm, opened, scheme):
    page = opened(size=PHONE, scheme=scheme)
    page.locator("[data-show=queue]").tap()
    row(page, "Ember").wait_for()
    page.wait_for_timeout(200)
    start = row(page, "Slow Tide").locator(".grip").bounding_box()
    end = row(page, "A Field").bounding_box()
    x, y, to = start["x"] + 20, start["y"] + 20, end["y"] + end["height"] * 0.6
    touch = page.context.new_cdp_session(page)
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 9):
        point = {"x": x, "y": y + (to - y) * step / 8}
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    calm.until("it was moved", lambda: queue(calm)[2] == "Slow Tide")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_axe_finds_no_barrier(calm, opened, scheme, size):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = opened(size=size, scheme=scheme)
    calm.jump(1)
    page.locator("#playing-title", has_text="Slow Tide").wait_for()
    phone = size == PHONE
    for view in VIEWS if phone else ("playing",):
        if phone:
            page.locator(f"[data-show={view}]").tap()
        if view == "queue" or not phone:
            row(page, "Lanterns").get_by_role("button", name="More for").click()
        if view == "find" or not phone:
            page.get_by_role("searchbox").fill("e")
            page.locator("#tracks .found").first.wait_for()
        if view == "speakers" or not phone:
            page.get_by_role("button", name="Details of shelf").click()
        page.wait_for_timeout(300)
        found = axe.run(page).response["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == [], view


def test_axe_finds_no_barrier_at_the_gate(calm, browser):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    for scheme in ("light", "dark"):
        context = context_of(browser, PHONE, scheme)
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{calm.port}/")
        page.get_by_role("heading", name="This page needs a link").wait_for()
        assert [one["id"] for one in axe.run(page).response["violations"]] == []
        context.close()


def test_everything_is_reached_by_the_tab_key(calm, opened):
    page = opened()
    calm.jump(1)
    page.locator("#playing-title", has_text="Slow Tide").wait_for()
    seen = set()
    for _ in range(90):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.getAttribute('aria-label')"))
    wanted = {"seek", "play", "next", "previous", "shuffle", "repeat", "room-level", "words", "browse", "clear"}
    assert wanted - seen == set()
    assert {"Volume of shelf", "Details of shelf", "More for “Ember”"} - seen == set()
    page.locator("#play").focus()
    page.keyboard.press("Space")
    calm.until("it is paused", lambda: calm.room()["mode"] == "paused")


# -- the host goes and comes ---------------------------------------------------------------------


def test_the_page_says_that_the_host_is_away_and_comes_back_by_itself(calm, host, opened):
    page = opened()
    loads = []
    page.on("load", lambda: loads.append(1))
    calm.jump(2)
    page.locator("#playing-title", has_text="Lanterns").wait_for()
    running = next(one for one in reversed(calm.started) if one.name == "host")
    running.stop(signal.SIGKILL)
    page.locator("#banner", has_text="The host has been away").wait_for()
    page.locator("#next").click()
    page.locator("#alerts", has_text="does not answer").wait_for()
    assert page.locator("#playing-title").inner_text() == "Lanterns"
    assert titles(page) == [song.title for song in SONGS]
    calm.host("--library", str(calm.folder / "music"))
    page.wait_for_function("() => !document.querySelector('#banner').textContent", timeout=20_000)
    page.locator("#next").click()
    page.locator("#playing-title", has_text="A Field, Early").wait_for()
    assert loads == [], "it came back without being loaded again"


def test_a_page_of_an_older_version_loads_the_new_one_and_only_once(calm, browser):
    context = context_of(browser)
    page = context.new_page()
    loads = []
    page.on("load", lambda: loads.append(1))
    page.route("**/api/me", answered_as_older)
    page.route("**/api/sign-in", answered_as_older)
    signed_in(page, new_link(calm))
    page.wait_for_timeout(1500)
    assert len(loads) == 2
    assert page.locator("#app").is_visible()
    context.close()


def answered_as_older(route):
    """Let the host answer, and its answer say an older version."""
    response = route.fetch()
    route.fulfill(response=response, json={**response.json(), "version": "0.0.1"})
