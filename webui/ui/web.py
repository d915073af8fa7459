"""Around gradio's pages: the visitor's cookie, the page's language, our files, and who may knock.

Gradio serves whatever it has cached to whoever knows the address; outputs are therefore served
here, by run, to those who may see the run.
"""

from __future__ import annotations

import json
import os
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webui.core.errors import NotAllowed, StudioError
from webui.core.text import LANGUAGES
from webui.service.runs import RunSummary
from webui.ui import identity, language
from webui.ui.page import Page
from webui.ui.uploading import UploadBounds
from webui.ui.words.profiler import OWNER_ONLY

THUMBNAIL = "thumbnail"
_MOST_DIGITS = 15
_YEAR_S = 365 * 24 * 3600
_MEDIA = {".mp4": "video/mp4", ".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}

_DOCUMENTS = (".html", ".md", ".txt", ".json", ".zip")
"""Given as downloads only: nothing of a document is opened as a page of this site."""


def file_address(run_id: str, name: str, download: bool = False) -> str:
    """Where the page finds a file of a run, relative to the page."""
    return f"studio/files/{run_id}/{name}" + ("?download=1" if download else "")


def profile_address(profile: str, row: str, name: str) -> str:
    """Where the page finds a file of a profile's row, or of the profile (row `-`)."""
    return f"studio/profiles/{profile}/{row}/{name}"


def build_profile_route(page: Page) -> Route:
    """Serves the files of profiles, to the owner only and always as downloads."""

    def on_file(request: Request) -> Response:
        asked = request.path_params
        row = "" if asked["row"] == "-" else asked["row"]
        try:
            visitor = identity.visitor_of_download(request, page.access)
            if not page.access.is_owner(visitor):
                raise NotAllowed(OWNER_ONLY)
            path = page.studio.profiler.profiles.file(asked["profile"], row, asked["name"])
        except StudioError:
            return PlainTextResponse("Not found", HTTPStatus.NOT_FOUND)
        return FileResponse(
            path,
            media_type="application/octet-stream",
            filename="-".join(part for part in (asked["profile"], row, asked["name"]) if part),
            headers={"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"},
        )

    return Route("/studio/profiles/{profile}/{row}/{name}", on_file)


def build_file_route(page: Page) -> Route:
    """Serves outputs and thumbnails of the visitor's own runs, with byte ranges."""

    def on_file(request: Request) -> Response:
        run_id, name = request.path_params["run_id"], request.path_params["name"]
        try:
            visitor = identity.visitor_of_download(request, page.access)
            run = page.studio.run(run_id, visitor)
        except StudioError:
            # One answer for what does not exist and what is somebody else's: ids cannot be probed.
            return PlainTextResponse("Not found", HTTPStatus.NOT_FOUND)
        path = run.thumbnail if name == THUMBNAIL else None
        for output in run.outputs:
            if output.name == name:
                path = output
        download = "download" in request.query_params
        known = path is not None and (
            path.suffix in _MEDIA or (download and path.suffix in _DOCUMENTS)
        )
        if path is None or not known or not path.is_file():
            return PlainTextResponse("Not found", HTTPStatus.NOT_FOUND)
        return FileResponse(
            path,
            media_type=_MEDIA.get(path.suffix, "application/octet-stream"),
            filename=_saved_as(run, path) if download else None,
            headers={"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"},
        )

    return Route("/studio/files/{run_id}/{name}", on_file)


def _saved_as(run: RunSummary, path: Path) -> str:
    """What a visitor's browser calls a file of a run: after its input, where that has a name."""
    return f"{Path(run.input_name).stem or run.id}-{path.name}"


def page_address(run_id: str, number: int) -> str:
    """Where the page finds the picture of a document's page, relative to the page."""
    return f"studio/pages/{run_id}/{number}"


def build_page_route(page: Page) -> Route:
    """Serves the pictures of the pages of the visitor's own documents."""

    def on_page(request: Request) -> Response:
        try:
            visitor = identity.visitor_of_download(request, page.access)
            run_id, number = request.path_params["run_id"], request.path_params["number"]
            path = page.studio.documents.picture(run_id, visitor, number)
        except StudioError:
            return PlainTextResponse("Not found", HTTPStatus.NOT_FOUND)
        return FileResponse(
            path,
            media_type="image/jpeg",
            headers={"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"},
        )

    return Route("/studio/pages/{run_id}/{number:int}", on_page)


def frame_address(run_id: str, name: str, version: object) -> str:
    """Where the page finds a frame of a run (`webui.service.videos.PICTURES`).

    Args:
        run_id: the run.
        name: of the picture.
        version: changes with the picture, which a browser would otherwise keep.
    """
    return f"studio/frames/{run_id}/{name}?v={version}"


def build_frame_route(page: Page) -> Route:
    """Serves frames of the visitor's own videos, as they were and as they became."""

    def on_frame(request: Request) -> Response:
        try:
            visitor = identity.visitor_of_download(request, page.access)
            run_id, name = request.path_params["run_id"], request.path_params["name"]
            path = page.studio.videos.picture(run_id, visitor, name)
        except StudioError:
            return PlainTextResponse("Not found", HTTPStatus.NOT_FOUND)
        return FileResponse(
            path,
            media_type="image/jpeg",
            headers={"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"},
        )

    return Route("/studio/frames/{run_id}/{name}", on_frame)


REFUSED_ON_LOOPBACK = (
    "VRAM Studio answers only this machine's own pages here. Open it as http://127.0.0.1, or start "
    "it with --host to let others in. / 这里只回应本机自己的页面：请用 http://127.0.0.1 打开，"
    "或用 --host 启动以允许他人访问。"
)
REFUSED_ELSEWHERE = (
    "VRAM Studio does not answer pages of other sites. / VRAM Studio 不回应其他网站的页面。"
)


class DoorMiddleware:
    """Refuses foreign sites and large uploads, names the visitor, tells the page its language."""

    def __init__(self, app: ASGIApp, page: Page) -> None:
        self.app = app
        self.page = page
        self.uploads = UploadBounds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        loopback = self.page.access.loopback
        if not (_is_local_page(headers) if loopback else _is_own_page(headers)):
            refusal = PlainTextResponse(
                REFUSED_ON_LOOPBACK if loopback else REFUSED_ELSEWHERE, HTTPStatus.FORBIDDEN
            )
            await refusal(scope, receive, send)
        elif scope["path"].rstrip("/").endswith("/upload") and (
            turned_away := self._upload_refusal(scope, headers)
        ):
            await turned_away(scope, receive, send)
        elif scope["method"] == "GET" and _is_page(scope):
            await _PageSender(self.page, scope, headers, send).run(self.app, receive)
        else:
            await self.app(scope, receive, send)

    def _upload_refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """Only uploads that say their size are taken: gradio would keep whatever is sent."""
        length = headers.get("content-length", "")
        if scope["method"] != "POST" or not length.isdecimal() or len(length) > _MOST_DIGITS:
            return PlainTextResponse("Not found", HTTPStatus.NOT_FOUND)
        access = self.page.access
        try:
            owner = access.is_owner(identity.visitor_of_download(Request(scope), access))
        except StudioError:
            owner = False
        refused = self.uploads.refusal(int(length), owner)
        if refused is None:
            return None
        status, why = refused
        return PlainTextResponse(why.in_language(self.page.language(headers)), status)


def _is_local_page(headers: Headers) -> bool:
    """Against DNS rebinding (a foreign Host) and forged requests (a foreign Origin)."""
    if identity.host_name(headers.get("host", "")) not in identity.LOOPBACK_HOSTS:
        return False
    origin = headers.get("origin")
    return origin is None or identity.host_name(origin) in identity.LOOPBACK_HOSTS


def _is_own_page(headers: Headers) -> bool:
    """Against requests that a foreign page makes in a visitor's name (a foreign Origin)."""
    origin = headers.get("origin")
    hosts = {identity.host_name(headers.get(name, "")) for name in ("host", "x-forwarded-host")}
    return origin is None or identity.host_name(origin) in hosts - {""}


def _is_page(scope: Scope) -> bool:
    root = scope.get("root_path", "")
    return scope["path"].removeprefix(root) in ("", "/")


class _PageSender:
    """Adds the language script to the page and the cookies to its answer."""

    def __init__(self, page: Page, scope: Scope, headers: Headers, send: Send) -> None:
        self.scope, self.headers, self.send = scope, headers, send
        asked = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("lang", [""])[0]
        self.chosen = asked if asked in LANGUAGES else ""
        self.language = self.chosen or page.language(headers)
        self.start: Message | None = None
        self.body = b""

    async def run(self, app: ASGIApp, receive: Receive) -> None:
        await app(self.scope, receive, self._on_message)

    async def _on_message(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
            return
        if message["type"] != "http.response.body" or self.start is None:
            await self.send(message)
            return
        self.body += message.get("body", b"")
        if message.get("more_body"):
            return
        headers = MutableHeaders(scope=self.start)
        if headers.get("content-type", "").startswith("text/html"):
            self.body = self.body.replace(b"<head>", b"<head>" + self._script(), 1)
            headers["content-length"] = str(len(self.body))
            headers["cache-control"] = "no-store"
            if self.chosen:
                headers.append(
                    "set-cookie",
                    f"{language.COOKIE}={self.chosen}; Path=/; Max-Age={_YEAR_S}; SameSite=Lax",
                )
            if not identity.visitor_id(self.headers):
                headers.append("set-cookie", _visitor_cookie())
        await self.send(self.start)
        await self.send({"type": "http.response.body", "body": self.body})

    def _script(self) -> bytes:
        locale = json.dumps(language.BROWSER_LOCALES[self.language])
        return (
            f"<script>document.documentElement.lang={locale};"
            f'Object.defineProperty(navigator,"language",{{get:()=>{locale}}});</script>'
        ).encode()


def _visitor_cookie() -> str:
    # A Space is shown in a frame of another site, where only a partitioned cookie is sent back.
    framed = "SPACE_ID" in os.environ
    where = "SameSite=None; Secure; Partitioned" if framed else "SameSite=Lax"
    new = identity.new_visitor_id()
    return f"{identity.COOKIE}={new}; Path=/; Max-Age={_YEAR_S}; HttpOnly; {where}"
