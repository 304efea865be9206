"""The command ``link``, against a host that answers what it is told to."""

from __future__ import annotations

import json

import pytest

MADE = {
    "id": "3F7KQZ2M",
    "role": "guest",
    "name": "Ada",
    "token": "A" * 26,
    "urls": [f"http://192.0.2.1:7783/#{'A' * 26}", f"http://192.0.2.2:7783/#{'A' * 26}"],
    "fingerprint": "",
}


def test_a_link_is_made_and_shown_with_what_it_is_good_for(host, call):
    host.answer("POST", "/api/links", MADE)
    result = call("link", "--role", "guest", "--for", "Ada")
    assert result.exit_code == 0, result.stderr
    assert host.requests == [("POST", "/api/links", {"role": "guest", "name": "Ada"})]
    lines = result.stdout.splitlines()
    assert lines[0] == MADE["urls"][0]
    assert "add to the end of the queue, until `musicsyncd link revoke 3F7KQZ2M`" in lines[2]
    assert lines[3] == "The host is also at http://192.0.2.2:7783/"
    assert result.stdout.count("A" * 26) == 1, "the token stands there once"


def test_a_link_is_for_control_unless_something_else_is_said_and_has_a_code_to_scan(host, call):
    host.answer("POST", "/api/links", MADE | {"fingerprint": "AB:CD"})
    result = call("link", "--qr")
    assert host.requests[0][2] == {"role": "control", "name": ""}
    assert "█" in result.stdout
    assert "fingerprint is\nAB:CD\n" in result.stdout
    assert "█" not in call("link", "make", "--no-qr").stdout
    assert json.loads(call("link", "--json").stdout)["token"] == "A" * 26


def test_links_are_listed(host, call):
    host.answer("GET", "/api/links", {"links": []})
    assert "make one with `musicsyncd link`" in call("link", "list").stdout
    link = {"id": "3F7KQZ2M", "role": "guest", "name": "A\x1bda", "made_s": 1_800_000_000.0, "used_s": None}
    host.answer("GET", "/api/links", {"links": [link]})
    shown = call("link", "list").stdout
    assert "\x1b" not in shown
    row = shown.splitlines()[1].split()
    assert (row[0], row[1], row[-1]) == ("3F7KQZ2M", "guest", "never")
    assert json.loads(call("link", "list", "--json").stdout) == [link]


def test_a_link_is_taken_back(host, call):
    host.answer("DELETE", "/api/links/3F7K", {"message": "revoked the link 3F7KQZ2M of Ada"})
    assert call("link", "revoke", "3F7K").stdout == "revoked the link 3F7KQZ2M of Ada\n"


@pytest.mark.parametrize("words", [("--role", "owner"), ("revoke",), ("remake",)])
def test_a_wrong_call_is_said(call, words):
    assert call("link", *words).exit_code == 2


def test_links_are_made_on_the_hosts_machine(folder, call):
    result = call("link")
    assert result.exit_code == 1
    assert "run the command on the host's" in result.stderr
