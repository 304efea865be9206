"""Who asks, as the API says it; signing in and out on a page; and links, which are made for that.

A page shows a link's token once, in a body, and has it as a cookie from then on: no script reads it, no other site's
page has it sent (``HttpOnly``, ``SameSite=Strict``), and it says nothing of what it opens but that. What the token is
good for is looked up at each request, so a link that is taken back ends everywhere at once.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from musicsyncd.config import address_text
from musicsyncd.errors import ControlError
from musicsyncd.system import bodies
from musicsyncd.system.encoding import encoded
from musicsyncd.system.http_guard import Caller, cookie_name
from musicsyncd.system.site import Site

COOKIE_S = 365 * 86_400
"""A phone that is not used for a year has to be shown the link again."""

Json = dict[str, Any]


async def me(site: Site, _match: object, _body: bodies.Nothing, caller: Caller) -> Json:
    """Return who asks, and whom."""
    link = site.links.named(caller.link_id) if caller.link_id else None
    return _me(site, caller.role, "" if link is None else link.name)


async def sign_in(site: Site, _match: object, body: bodies.SignIn, caller: Caller) -> web.StreamResponse:
    """Give a page the cookie of the link whose token it shows.

    Raises:
        web.HTTPUnauthorized: it is no token, or one that was taken back.
    """
    link = site.links.find(body.token)
    if link is None:
        raise web.HTTPUnauthorized(
            reason="this link was revoked, or is of another host: get one with `musicsyncd link` on the host"
        )
    response = web.Response(body=encoded(_me(site, link.role, link.name)), content_type="application/json")
    response.set_cookie(
        cookie_name(caller.port),
        body.token.strip(),
        max_age=COOKIE_S,
        httponly=True,
        samesite="Strict",
        secure=caller.secure,
    )
    return response


async def sign_out(_site: Site, _match: object, _body: bodies.Nothing, caller: Caller) -> web.StreamResponse:
    """Take a page's cookie away."""
    response = web.Response(body=encoded({"message": "signed out"}), content_type="application/json")
    response.del_cookie(cookie_name(caller.port), httponly=True, samesite="Strict", secure=caller.secure)
    return response


async def links(site: Site, _match: object, _body: bodies.Nothing, _caller: Caller) -> Json:
    """Return all links."""
    return {"links": site.links.all()}


async def make_link(site: Site, _match: object, body: bodies.NewLink, _caller: Caller) -> Json:
    """Make a link.

    Raises:
        ControlError: the room has no key, and needs none for what everybody may.
    """
    places = urls(site)
    if site.is_open:
        raise ControlError(f"this host runs without a key: whoever opens {places[0]} may everything, no link is needed")
    link, token = site.links.make(body.role, body.name)
    return {
        "id": link.link_id,
        "role": link.role,
        "name": link.name,
        "token": token,
        "urls": [f"{place}#{token}" for place in places],
        "fingerprint": "" if site.secured is None else site.secured.fingerprint,
    }


async def revoke_link(site: Site, match: Any, _body: bodies.Nothing, _caller: Caller) -> Json:  # noqa: ANN401
    """Take a link back."""
    return {"message": site.links.revoke(match["id"])}


def urls(site: Site) -> list[str]:
    """Return where the page is, the best first."""
    host = site.control.status()["host"]
    addresses = reachable(one.rpartition(" ")[2] for one in host.get("interfaces", ()))
    plain = [f"http://{address_text((one, host['port']))}/" for one in addresses]
    if site.secured is None:
        return plain
    return [f"https://{address_text((one, site.secured.port))}/" for one in addresses] + plain


def reachable(addresses: Iterable[str]) -> list[str]:
    """Return those of a machine's addresses that a browser can be given, those that most others reach first.

    An address of IPv6 that means something on one link only has its interface's name in it, which no browser takes.
    """
    found = [ipaddress.ip_address(one) for one in dict.fromkeys(addresses) if "%" not in one]
    usable = [one for one in found if one.version == 4 or not one.is_link_local]
    order = sorted(usable, key=lambda one: (one.is_loopback, one.version != 4, one.is_link_local))
    return [str(one) for one in order] or ["127.0.0.1"]


def _me(site: Site, role: str, name: str) -> Json:
    host = site.control.status()["host"]
    return {
        "role": role,
        "name": name,
        "host": host["name"],
        "version": host["version"],
        "epoch": host["epoch"],
        "open": site.is_open,
        "tls_port": None if site.secured is None else site.secured.port,
    }
