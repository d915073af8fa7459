"""Who is asking: the visitor's name for the service, from a request.

`local` on loopback; `user:NAME` when signed in; else the random id of an HttpOnly cookie; else,
for API clients that keep no cookies, their session hash, a secret that only they know.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
from starlette.requests import Request as HttpRequest

from webui.core.errors import NotAllowed
from webui.service.access import LOCAL, Access
from webui.ui.language import read_cookies
from webui.ui.words import common as words

COOKIE = "studio_visitor"
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_FORWARDED = ("x-forwarded-for", "x-forwarded-host", "forwarded")
_VISITOR_ID = re.compile(r"[0-9a-f]{32}")


def new_visitor_id() -> str:
    """128 random bits."""
    return secrets.token_hex(16)


def visitor_id(headers: Mapping[str, str]) -> str:
    """The id in the visitor's cookie, or "" when there is none of the right form."""
    value = read_cookies(headers).get(COOKIE, "")
    return value if _VISITOR_ID.fullmatch(value) else ""


def host_name(address: str) -> str:
    """The name in a Host header or an origin, without the port."""
    try:
        return urlsplit(address if "://" in address else f"//{address}").hostname or ""
    except ValueError:
        return ""


def is_forwarded(headers: Mapping[str, str]) -> bool:
    """Whether a proxy passed the request on: then it is not this machine's user who asks."""
    return any(name in headers for name in _FORWARDED)


def visitor(
    headers: Mapping[str, str], access: Access, *, username: str | None, session: str | None
) -> str:
    """The visitor's name.

    Raises:
        NotAllowed: sign-in is on and the visitor is not signed in, or nothing identifies them.
    """
    if username:
        return f"user:{username}"
    if not access.owner_user:
        if access.loopback and not is_forwarded(headers):
            return LOCAL
        if known := visitor_id(headers):
            return f"browser:{known}"
        if session:
            return f"session:{session}"
    raise NotAllowed(words.NOBODY, words.LOAD_AGAIN)


def visitor_of_event(request: gr.Request, access: Access) -> str:
    """The visitor behind an event or an API call."""
    return visitor(request.headers, access, username=request.username, session=request.session_hash)


def visitor_of_download(request: HttpRequest, access: Access) -> str:
    """The visitor behind a plain HTTP request to one of our own routes."""
    app: Any = request.app
    user = None
    for name in ("access-token", "access-token-unsecure"):
        token = request.cookies.get(f"{name}-{getattr(app, 'cookie_id', '')}")
        user = user or getattr(app, "tokens", {}).get(token)
    return visitor(request.headers, access, username=user, session=None)
