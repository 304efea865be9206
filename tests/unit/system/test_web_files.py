"""The page's files as they are served, and that nothing else is."""

from __future__ import annotations

import gzip

import pytest
from http_rig import run

from musicsyncd.errors import ConfigError
from musicsyncd.system import web_files as module
from musicsyncd.system.web_files import POLICY, web_files


def make(folder, **files: bytes):
    (folder / "sub").mkdir(parents=True)
    (folder / "index.html").write_bytes(b"<!doctype html>" + b"<p>hello</p>" * 50)
    (folder / "sub" / "x.js").write_bytes(b"1")
    (folder / "icon.png").write_bytes(bytes(5000))
    for name in ("notes.md", "secret", "x.py", ".js~"):
        (folder / name).write_text("x")
    return folder


def test_files_are_found_by_what_is_asked_for_and_others_are_left_out(tmp_path):
    found = web_files(make(tmp_path / "web"))
    assert sorted(found) == ["/", "/web/icon.png", "/web/index.html", "/web/sub/x.js"]
    assert found["/"] is found["/web/index.html"]
    assert (found["/"].media_type, found["/web/sub/x.js"].media_type) == ("text/html", "text/javascript")
    assert gzip.decompress(found["/"].packed) == found["/"].data
    assert len(found["/"].packed) < len(found["/"].data)
    assert found["/web/sub/x.js"].packed is None, "packed it would be longer"
    assert found["/web/icon.png"].packed is None, "it is packed already"
    assert found["/"].tag != found["/web/sub/x.js"].tag
    assert web_files(tmp_path / "none") == {}


@pytest.mark.parametrize(("limit", "most"), [("MAX_FILES", 2), ("MAX_FILE_BYTES", 100)])
def test_a_page_is_bounded(tmp_path, monkeypatch, limit, most):
    monkeypatch.setattr(module, limit, most)
    with pytest.raises(ConfigError, match="reinstall musicsyncd"):
        web_files(make(tmp_path / "web"))


def test_the_page_is_served_to_anybody_and_names_of_others_to_nobody(tmp_path):
    folder = make(tmp_path / "web")

    async def test(client):
        client.server.site.files.clear()
        client.server.site.files.update(web_files(folder))
        async with client.tcp.get("/", headers={"Accept-Encoding": "gzip"}) as response:
            assert (response.status, response.headers["Content-Encoding"]) == (200, "gzip")
            assert await response.read() == (folder / "index.html").read_bytes()
            assert response.headers["Content-Security-Policy"] == POLICY
            assert response.headers["Content-Type"] == "text/html; charset=utf-8"
            assert (response.headers["Cache-Control"], response.headers["Vary"]) == ("no-cache", "Accept-Encoding")
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            tag = response.headers["ETag"]
        plain = {"Accept-Encoding": "identity"}
        async with client.tcp.get("/?v=2", headers=plain) as response:
            assert "Content-Encoding" not in response.headers
            assert await response.read() == (folder / "index.html").read_bytes()
        async with client.tcp.get("/", headers={"If-None-Match": tag}) as response:
            assert (response.status, await response.read(), response.headers["ETag"]) == (304, b"", tag)
        async with client.tcp.head("/") as response:
            assert (response.status, await response.read()) == (200, b"")
        for path in ("/web/nothing.js", "/web/", "/web/..%2f..%2fetc/passwd", "/web/secret", "/web//index.html"):
            assert (await client.ask("GET", path, headers={}))[0] == 401, path
            assert (await client.ask("GET", path))[0] == 404, path
        assert (await client.ask("POST", "/", b"{}"))[0] == 405

    # The server knows what is public when it is made: the names are those of the page as it is.
    run(test, tmp_path)


def test_the_package_has_a_page_that_fits_its_budget():
    found = web_files()
    assert "/" in found
    assert sum(len(one.data) for path, one in found.items() if path != "/") <= 150_000
    for path, one in found.items():
        if one.media_type == "text/html":
            assert b"http://" not in one.data.replace(b"http://www.w3.org/", b""), path
            assert b" style=" not in one.data, path
            assert b"<script>" not in one.data, path
