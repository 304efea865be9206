"""Links that were given away: who comes in by them, and that nobody does by one that was taken back."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from musicsyncd.errors import ConfigError, ControlError, MusicSyncError
from musicsyncd.system import links as module
from musicsyncd.system.database import Database
from musicsyncd.system.links import Links


class Day:
    """A clock of the day that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def day() -> Day:
    return Day()


@pytest.fixture
def database(tmp_path: Path):
    opened = Database(tmp_path / "state.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def links(database: Database, day: Day) -> Links:
    return Links(database, random.Random(1).randbytes, day)


def test_a_token_opens_what_its_role_says_and_no_other_text_does(links):
    link, token = links.make("guest", "Ada")
    assert (len(token), token.isalnum(), len(link.link_id)) == (26, True, 8)
    assert links.entitled(token) == ("guest", link.link_id)
    assert links.entitled(f" {token.lower()} ") == ("guest", link.link_id)
    for wrong in ("", token[:-1], f"{token}A", link.link_id, token[::-1], "\udcff"):
        assert links.entitled(wrong) is None
    other = links.make("listen", "")[1]
    assert other != token
    assert links.entitled(other)[0] == "listen"


def test_no_token_is_kept_anywhere(links, database, tmp_path, caplog):
    _, token = links.make("control", "Ada")
    database.close()
    assert token not in caplog.text
    assert token not in str(links.all())
    for file in tmp_path.iterdir():
        assert token.encode() not in file.read_bytes()


def test_links_outlive_the_host(links, database, day):
    first, token = links.make("guest", "Ada")
    second, gone = links.make("control", "")
    links.revoke(second.link_id)
    again = Links(database, random.Random(2).randbytes, day)
    assert again.entitled(token) == ("guest", first.link_id)
    assert again.entitled(gone) is None
    assert [one["id"] for one in again.all()] == [first.link_id]


def test_a_revoked_link_opens_nothing_and_that_is_told(links):
    told: list[str] = []
    links.revoked = told.append
    link, token = links.make("control", "Ada")
    kept = links.make("control", "")[1]
    assert links.revoke(link.link_id[:3].lower()) == f"revoked the link {link.link_id} of Ada"
    assert told == [link.link_id]
    assert links.entitled(token) is None
    assert links.entitled(kept) is not None
    assert links.named(link.link_id) is None
    for wrong in ("", link.link_id, "nowhere"):
        with pytest.raises(ControlError, match="no link"):
            links.revoke(wrong)


def test_a_beginning_that_several_have_revokes_none(database, day):
    ids = iter([b"\0" * 16, b"\0" * 5, b"\1" * 16, b"\0\0\0\0\1"])
    links = Links(database, lambda _count: next(ids), day)
    tokens = [links.make("listen", "")[1] for _ in range(2)]
    with pytest.raises(ControlError, match="2 links begin with 'AAA'"):
        links.revoke("AAA")
    assert all(links.entitled(one) for one in tokens)


def test_a_link_that_cannot_be_kept_is_not_given_away_and_a_revoked_one_is_revoked(links, database, monkeypatch):
    link, token = links.make("control", "")

    def refuse(*_: object) -> None:
        raise MusicSyncError("cannot save: the disk is full")

    monkeypatch.setattr(database, "save_links", refuse)
    monkeypatch.setattr(database, "remove_links", refuse)
    with pytest.raises(MusicSyncError):
        links.make("control", "")
    assert len(links.all()) == 1
    with pytest.raises(MusicSyncError):
        links.revoke(link.link_id)
    assert links.entitled(token) is None


def test_what_is_no_role_or_name_and_too_many_are_refused(links, monkeypatch):
    for role in ("none", "local", "", "owner"):
        with pytest.raises(ControlError, match="listen, guest, control"):
            links.make(role, "")
    with pytest.raises(ConfigError, match="cannot be printed"):
        links.make("listen", "a\nb")
    monkeypatch.setattr(module, "MAX_LINKS", 2)
    for _ in range(2):
        links.make("listen", "")
    with pytest.raises(ControlError, match="there are 2 links already"):
        links.make("listen", "")


def test_when_a_link_was_used_is_kept_once_a_minute_and_at_the_end(links, database, day, monkeypatch):
    saved: list[float | None] = []
    real = database.save_links
    monkeypatch.setattr(database, "save_links", lambda links: (saved.extend(one.used_s for one in links), real(links)))
    begin_s = day.now_s
    link, token = links.make("control", "")
    links.make("listen", "never used")
    for _ in range(180):
        day.now_s += 1.0
        links.find(token)
        links.keep_used()
    assert [one for one in saved if one is not None] == [begin_s + 1, begin_s + 62, begin_s + 123]
    links.keep_used(at_once=True)
    assert saved[-1] == begin_s + 180
    kept = {one.link_id: one for one in database.links()}
    assert kept[link.link_id] == replace(link, used_s=begin_s + 180)
    links.keep_used(at_once=True)
    assert len(saved) == 2 + 4


def test_a_role_that_a_newer_version_kept_opens_nothing(links, database, day):
    link, token = links.make("guest", "")
    database.save_links([replace(link, role="owner")])
    assert Links(database, random.Random(2).randbytes, day).entitled(token) is None


# -- the room's key ----------------------------------------------------------------------------


OLD, NEW, OTHER = b"old!", b"new!", b"else"


def test_links_of_another_key_are_revoked_and_stay_so(links, database, day, caplog):
    told: list[str] = []
    links.hold(OLD)
    made = [links.make("control", "") for _ in range(2)]
    again = Links(database, random.Random(2).randbytes, day)
    again.revoked = told.append
    again.hold(NEW)
    assert sorted(told) == sorted(link.link_id for link, _ in made)
    assert "revoked all links, 2," in caplog.text
    kept = again.make("listen", "")[1]
    for opened in (again, Links(database, random.Random(3).randbytes, day)):
        assert [opened.entitled(token) for _, token in made] == [None, None]
        opened.hold(NEW)
        assert opened.entitled(kept) is not None


def test_links_of_a_key_that_was_replaced_in_use_stay_and_go_with_the_newer_one(links, database, day):
    links.hold(OLD)
    token = links.make("control", "")[1]
    links.hold(NEW, [OLD])
    for key_id, others in ((NEW, []), (OLD, [NEW]), (NEW, [OLD]), (NEW, [])):
        again = Links(database, random.Random(2).randbytes, day)
        again.hold(key_id, others)
        assert again.entitled(token) is not None
    again.hold(OTHER)
    assert again.entitled(token) is None


def test_links_of_which_no_key_was_noted_stay_until_the_key_changes(links, database, day):
    token = links.make("control", "")[1]
    Links(database, random.Random(2).randbytes, day).hold(OLD)
    again = Links(database, random.Random(2).randbytes, day)
    assert again.entitled(token) is not None
    again.hold(NEW)
    assert again.entitled(token) is None


def test_links_of_another_key_open_nothing_even_where_that_cannot_be_kept(links, database, monkeypatch, caplog):
    links.hold(OLD)
    token = links.make("control", "")[1]

    def refuse(*_: object) -> None:
        raise MusicSyncError("cannot save: the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(database, "remove_links", refuse)
        links.hold(NEW)
    assert links.entitled(token) is None
    assert "the disk is full" in caplog.text
    again = Links(database, random.Random(2).randbytes)
    again.hold(NEW)
    assert again.entitled(token) is None
