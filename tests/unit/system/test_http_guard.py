"""Which requests are let in, judged by their headers alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from musicsyncd.system import http_guard as module
from musicsyncd.system.http_guard import (
    LOCAL,
    REFUSALS_AT_ONCE,
    REQUESTS_AT_ONCE,
    ROLES,
    Caller,
    Guard,
    Public,
    Rate,
    own_names,
    plain_address,
)

PORT = 7783
NAMES = ("den", "den.local", "localhost")
FAR = Caller(False, "192.0.2.7", PORT)
HOST = ("Host", f"192.0.2.1:{PORT}")
KEY = ("Authorization", "Bearer right")


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def seen(*headers: tuple[str, str], guard: Guard, caller: Caller = FAR, path: str = "/api/status", method: str = "GET"):
    """Return what the guard says of a request."""
    return guard.judge(caller, method, path, CIMultiDict(headers))


def judged(*headers: tuple[str, str], guard: Guard | None = None, **options):
    """Return the status of the refusal, or None."""
    found = seen(*headers, guard=guard or Guard(("right",), NAMES, Clock()), **options)
    if isinstance(found, Caller):
        return None
    assert "\n" not in found.line
    return found.status


# -- Host ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "192.0.2.1:7783",
        "127.0.0.1:7783",
        "[::1]:7783",
        "[fe80::1%eth0]:7783",
        "[fe80::1%25eth0]:7783",
        "[::ffff:192.0.2.1]:7783",
        "localhost:7783",
        "den:7783",
        "DEN.local:7783",
        "den.local.:7783",
    ],
)
def test_addresses_and_own_names_are_this_host(host):
    assert judged(("Host", host), KEY) is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example:7783",
        "den.evil.example:7783",
        "den.local.evil.example:7783",
        "xden:7783",
        "192.0.2.1",
        "192.0.2.1:80",
        "192.0.2.1:77830",
        "192.0.2.1:7783:7783",
        "192.0.2.1.evil.example:7783",
        "192.0.2.1:7783 ",
        "user@192.0.2.1:7783",
        "3221225985:7783",
        "0x7f.1:7783",
        "[::1:7783",
        "[zz]:7783",
        "[:::]:7783",
        "::1:7783",
        "[::1]7783",
        "den:７７８３",
        "den\udcff:7783",
        "localhost..:7783",
        "a" * 100_000,
        "[" + "1:" * 50_000 + "]",
    ],
)
def test_any_other_name_or_port_is_misdirected(host):
    assert judged(("Host", host), KEY) == 421
    assert judged(("Host", host)) == 421, "whoever asks for another host is not told whether the key is right"


def test_a_host_that_is_missing_or_there_twice_is_misdirected():
    assert judged(KEY) == 421
    assert judged(HOST, ("host", "192.0.2.1:7783"), KEY) == 421


def test_the_port_of_http_needs_not_be_written():
    guard = Guard(("right",), NAMES, Clock())
    caller = replace(FAR, port=80)
    assert judged(("Host", "den"), KEY, guard=guard, caller=caller) is None
    assert judged(("Host", "den"), ("Origin", "http://den:80"), KEY, guard=guard, caller=caller) is None
    secure = replace(FAR, port=443, secure=True)
    assert judged(("Host", "den"), ("Origin", "https://den"), KEY, guard=guard, caller=secure) is None
    assert judged(("Host", "den"), ("Origin", "http://den:443"), KEY, guard=guard, caller=secure) == 403


@pytest.mark.parametrize("path", ["http://192.0.2.1:7783/api/status", "192.0.2.1:7783", "*", ""])
def test_what_a_proxy_is_asked_is_misdirected(path):
    assert judged(HOST, KEY, path=path) == 421


@given(st.text(max_size=60))
def test_no_text_that_is_no_address_or_own_name_passes(text):
    host = f"{text}:{PORT}"
    if judged(("Host", host), KEY) is None:
        bare = text.strip("[]").partition("%")[0].lower().removesuffix(".")
        assert bare in NAMES or module._is_address(bare)


# -- Origin and fetch metadata ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://192.0.2.1:7783", None),
        ("http://192.0.2.1", 403),
        ("https://192.0.2.1:7783", 403),
        ("http://192.0.2.2:7783", 403),
        ("http://evil.example", 403),
        ("http://192.0.2.1:7783.evil.example", 403),
        ("http://192.0.2.1:7783/", 403),
        ("192.0.2.1:7783", 403),
        ("null", 403),
        ("", 403),
        ("http://" * 10_000, 403),
    ],
)
def test_a_page_must_be_of_the_very_host_that_it_asks(origin, status):
    assert judged(HOST, KEY, ("Origin", origin)) == status


def test_two_origins_are_none():
    assert judged(HOST, KEY, ("Origin", f"http://{HOST[1]}"), ("Origin", f"http://{HOST[1]}")) == 403


@pytest.mark.parametrize(
    ("site", "status"), [("same-origin", None), ("none", None), ("cross-site", 403), ("same-site", 403), ("", 403)]
)
def test_what_the_browser_says_of_the_page_counts(site, status):
    assert judged(HOST, KEY, ("Sec-Fetch-Site", site)) == status


# -- the key ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    ["", "right", "Bearer ", "Bearer wrong", "Bearer rightx", "Bearer righ", "bearer right", "Basic right", "\udcff"],
)
def test_without_the_right_token_nobody_comes_in(given):
    assert judged(HOST, ("Authorization", given)) == 401


def test_a_token_that_is_there_twice_or_elsewhere_is_none():
    assert judged(HOST, KEY, KEY) == 401
    assert judged(HOST, ("X-Token", "right"), ("Cookie", "Authorization=Bearer right"), path="/?token=right") == 401


def test_a_room_without_a_key_is_open_but_not_to_other_sites_nor_under_other_names():
    guard = Guard(None, NAMES, Clock())
    assert judged(HOST, guard=guard) is None
    assert judged(("Host", "evil.example:7783"), guard=guard) == 421
    assert judged(HOST, ("Origin", "http://evil.example"), guard=guard) == 403
    guard.accept(("new",))
    assert judged(HOST, guard=guard) is None


def test_while_the_key_changes_both_tokens_are_taken_and_afterwards_one():
    guard = Guard(("right",), NAMES, Clock())
    new = ("Authorization", "Bearer new")
    assert judged(HOST, new, guard=guard) == 401
    guard.accept(("right", "new"))
    assert judged(HOST, new, guard=guard) is None
    assert judged(HOST, KEY, guard=guard) is None
    guard.accept(("new",))
    assert judged(HOST, KEY, guard=guard) == 401


# -- links and pages -------------------------------------------------------------------------------

LINKS = {"ADA": ("guest", "L1"), "EAR": ("listen", "L2")}
ORIGIN = ("Origin", f"http://{HOST[1]}")
ADA = ("Cookie", f"other=1; musicsyncd-{PORT}=ADA; broken")
PUBLIC = Public(frozenset({("GET", "/"), ("POST", "/api/sign-in")}), frozenset({("GET", "/healthz")}))


def linked() -> Guard:
    return Guard(("right",), NAMES, Clock(), entitled=LINKS.get, public=PUBLIC)


def test_each_token_has_its_role_and_is_known_by_its_link():
    for headers, expected in (
        ((KEY,), ("control", "")),
        ((("Authorization", "Bearer ADA"),), ("guest", "L1")),
        ((ADA,), ("guest", "L1")),
        ((("Cookie", f"musicsyncd-{PORT}=EAR"),), ("listen", "L2")),
    ):
        found = seen(HOST, *headers, guard=linked())
        assert (found.role, found.link_id) == expected
    assert seen(HOST, guard=Guard(None, NAMES, Clock())).role == "control"


@pytest.mark.parametrize(
    "cookie",
    [
        "musicsyncd=ADA",
        f"musicsyncd-{PORT + 1}=ADA",
        f"musicsyncd-{PORT}=",
        f"musicsyncd-{PORT}=right",
        f"musicsyncd-{PORT}=ada ADA",
        f"musicsyncd-{PORT}=EVE; musicsyncd-{PORT}=ADA",
        "x" * 5000 + f"; musicsyncd-{PORT}=ADA",
    ],
)
def test_any_other_cookie_opens_nothing(cookie):
    assert judged(HOST, ("Cookie", cookie), guard=linked()) == 401


def test_a_revoked_link_is_told_from_none_and_a_wrong_key_is_not_helped_by_a_cookie():
    old = seen(HOST, ("Cookie", f"musicsyncd-{PORT}=EVE"), guard=linked())
    assert "revoked" in old.line
    assert seen(HOST, guard=linked()).line == "the room's key is needed"
    assert judged(HOST, ADA, ("Authorization", "Bearer wrong"), guard=linked()) == 401
    assert judged(HOST, ADA, ADA, guard=linked()) == 401


def test_a_cookie_changes_something_or_opens_a_socket_only_for_a_page_of_this_host():
    upgrade = ("Upgrade", "websocket")
    for method, more in (("POST", ()), ("DELETE", ()), ("GET", (upgrade,))):
        assert judged(HOST, ADA, *more, guard=linked(), method=method) == 403
        assert judged(HOST, ADA, ("Origin", "http://192.0.2.1:80"), *more, guard=linked(), method=method) == 403
        assert judged(HOST, ADA, ORIGIN, *more, guard=linked(), method=method) is None
        assert judged(HOST, KEY, *more, guard=linked(), method=method) is None
    assert judged(HOST, ADA, guard=linked()) is None


def test_what_is_public_needs_no_token_and_gives_no_role():
    assert seen(HOST, guard=linked(), path="/?x=1").role == "none"
    assert seen(HOST, ADA, guard=linked(), path="/").role == "guest"
    assert seen(HOST, ("Cookie", f"musicsyncd-{PORT}=EVE"), guard=linked(), path="/").role == "none"
    assert seen(HOST, ORIGIN, guard=linked(), path="/api/sign-in", method="POST").role == "none"
    assert judged(HOST, ("Origin", "http://evil.example"), guard=linked(), path="/api/sign-in", method="POST") == 403
    assert judged(HOST, guard=linked(), path="/", method="POST") == 401
    assert judged(HOST, guard=linked(), path="/web/..%2fx") == 401
    assert judged(("Host", "evil.example:7783"), guard=linked(), path="/") == 421
    # By a link on another site's page one gets here.
    assert judged(HOST, ("Sec-Fetch-Site", "cross-site"), guard=linked(), path="/") is None
    assert judged(HOST, ("Sec-Fetch-Site", "cross-site"), ADA, guard=linked()) == 403


def test_health_is_told_without_a_token_on_this_machine_only():
    for address, status in (("127.0.0.1", None), ("::1", None), ("127.8.9.1", None), ("192.0.2.7", 401), ("", 401)):
        assert judged(HOST, guard=linked(), path="/healthz", caller=Caller(False, address, PORT)) == status
    assert judged(HOST, KEY, guard=linked(), path="/healthz") is None


def test_roles_include_those_before_them():
    assert [[Caller(False, "", role=one).may(other) for other in ROLES] for one in ROLES] == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
        [True, True, True, True],
    ]


def test_what_is_public_has_the_rate_of_all_requests():
    guard = linked()
    found = [judged(HOST, guard=guard, path="/") for _ in range(REQUESTS_AT_ONCE + 1)]
    assert found == [None] * REQUESTS_AT_ONCE + [429]


# -- the Unix socket -------------------------------------------------------------------------------


def test_over_the_unix_socket_no_name_and_no_key_is_needed_and_no_page_may_ask():
    assert judged(caller=LOCAL) is None
    assert judged(("Host", "anything at all"), caller=LOCAL) is None
    assert judged(("Origin", "http://localhost"), caller=LOCAL) == 403
    assert judged(("Sec-Fetch-Site", "same-origin"), caller=LOCAL) == 403


def test_the_unix_socket_has_no_rate():
    guard = Guard(("right",), NAMES, Clock())
    assert {judged(caller=LOCAL, guard=guard) for _ in range(2 * REQUESTS_AT_ONCE)} == {None}


# -- rates -----------------------------------------------------------------------------------------


def test_who_is_refused_too_often_is_told_to_wait_and_the_right_token_from_there_still_comes_in():
    clock = Clock()
    guard = Guard(("right",), NAMES, clock)
    wrong = CIMultiDict([HOST, ("Authorization", "Bearer wrong")])
    statuses = [guard.judge(FAR, "GET", "/", wrong).status for _ in range(REFUSALS_AT_ONCE + 3)]
    assert statuses == [401] * REFUSALS_AT_ONCE + [429] * 3
    refusal = guard.judge(FAR, "GET", "/", wrong)
    assert (refusal.status, refusal.retry_after_s) == (429, 6)
    assert refusal.line == "the room's key is needed; too many requests came from this address: wait a moment"
    assert judged(("Host", "evil.example:7783"), guard=guard) == 429
    assert judged(HOST, KEY, guard=guard) is None
    assert judged(HOST, guard=guard, caller=Caller(False, "192.0.2.8", PORT)) == 401
    clock.now_s += refusal.retry_after_s
    assert judged(HOST, guard=guard) == 401
    assert judged(HOST, guard=guard) == 429


def test_commands_have_a_rate_for_each_source_and_media_one_of_their_own():
    clock = Clock()
    guard = Guard(("right",), NAMES, clock)
    for _ in range(REQUESTS_AT_ONCE):
        assert judged(HOST, KEY, guard=guard) is None
    assert judged(HOST, KEY, guard=guard) == 429
    assert judged(HOST, KEY, guard=guard, path=f"/media/{'0' * 64}") is None
    assert judged(HOST, KEY, guard=guard, caller=Caller(False, "192.0.2.8", PORT)) is None
    clock.now_s += 0.011
    assert judged(HOST, KEY, guard=guard) is None
    assert judged(HOST, KEY, guard=guard) == 429
    for _ in range(module.MEDIA_REQUESTS_AT_ONCE - 1):
        assert judged(HOST, KEY, guard=guard, path="/media/x") is None
    assert [judged(HOST, KEY, guard=guard, path="/media/x") for _ in range(20)][-1] == 429


def test_a_rate_over_a_long_time_is_its_rate_and_nothing_is_saved_up_beyond_the_most():
    rate, taken = Rate(2.0, 5), 0
    for step in range(1000):
        taken += rate.take("a", step * 0.1) == 0.0
    assert taken == pytest.approx(5 + 2.0 * 99.9, abs=1.0)
    assert sum(rate.take("a", 1e6) == 0.0 for _ in range(50)) == 5


def test_a_wait_is_no_longer_and_no_shorter_than_needed():
    rate = Rate(2.0, 1)
    assert rate.take("a", 0.0) == 0.0
    assert rate.take("a", 0.2) == pytest.approx(0.3)
    assert rate.take("a", 0.49) > 0.0
    assert rate.take("a", 0.5) == 0.0


@given(st.lists(st.integers(0, 30), max_size=200))
def test_no_more_sources_are_remembered_than_allowed_and_the_silent_ones_go(asked):
    rate = Rate(1.0, 3, most_sources=10)
    for source in asked:
        rate.take(str(source), 0.0)
    last = list(dict.fromkeys(reversed(asked)))[:10]
    assert sorted(rate._left) == sorted(map(str, last))


# -- names and addresses ---------------------------------------------------------------------------


def test_own_names_have_the_domains_that_this_machine_looks_in(tmp_path):
    file = tmp_path / "resolv.conf"
    file.write_text("# search evil.example\nnameserver 192.0.2.53\nsearch Fritz.box. lan .\ndomain home\nsearch\n\n")
    assert own_names("Den", file) == {"localhost", "den", "den.local", "den.fritz.box", "den.lan", "den.home"}
    assert own_names("den.example.org.", tmp_path / "none") == {"localhost", "den.example.org", "den", "den.local"}
    assert "localhost" in own_names()


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("::1", "::1"),
        ("", ""),
    ],
)
def test_an_address_of_the_older_family_is_one_however_it_came(text, plain):
    assert plain_address(text) == plain
