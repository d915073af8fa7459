"""Plain HTTP beside the page: a visitor's receipts as CSV, and `/metrics` for Prometheus."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from webui.core.errors import StudioError
from webui.service.receipt_rows import to_csv
from webui.ui import identity
from webui.ui.page import Page
from webui.ui.receipts_panel import CSV_ROUTE, of_model

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily

_PREFIX = "vram_studio"


def build_monitor_routes(page: Page) -> list[Route]:
    """Both routes; what is off, or somebody else's, is not found."""

    def on_csv(request: Request) -> Response:
        source = request.query_params.get("source", "own")
        try:
            visitor = identity.visitor_of_download(request, page.access)
            rows = page.studio.dashboard.receipts(visitor, source)
        except StudioError:
            return _not_found()
        text = to_csv(of_model(rows, request.query_params.get("model", "")))
        return Response(
            text,
            media_type="text/csv; charset=utf-8",
            headers={
                "Content-Disposition": 'attachment; filename="receipts.csv"',
                "Cache-Control": "private, no-store",
                "X-Content-Type-Options": "nosniff",
            },
        )

    def on_metrics(request: Request) -> Response:
        if not page.studio.config.metrics or not _may_read(request, page):
            return _not_found()
        # Imported here: whoever has it off does not pay for it.
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        registry.register(_Collector(page, disk=_is_owner(request, page)))
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return [Route(f"/{CSV_ROUTE}", on_csv), Route("/metrics", on_metrics)]


def _not_found() -> Response:
    return PlainTextResponse("Not found", HTTPStatus.NOT_FOUND)


def _may_read(request: Request, page: Page) -> bool:
    """Everybody who may see the page; with a sign-in, also by HTTP's basic one, as Prometheus
    sends it."""
    if not page.access.owner_user:
        return True
    try:
        identity.visitor_of_download(request, page.access)
        return True
    except StudioError:
        return _signs_in(request)


def _is_owner(request: Request, page: Page) -> bool:
    try:
        visitor = identity.visitor_of_download(request, page.access)
    except StudioError:
        # Who may read and is not signed in to the page has given a name and a password.
        visitor = f"user:{_signed_in(request)}"
    return page.access.is_owner(visitor)


def _signs_in(request: Request) -> bool:
    return bool(_signed_in(request))


def _signed_in(request: Request) -> str:
    """The name that HTTP's basic sign-in gives with its password; empty without."""
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    try:
        name, _, password = base64.b64decode(given, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return ""
    app: Any = request.app
    accounts = app.auth if isinstance(getattr(app, "auth", None), dict) else {}
    known = str(accounts.get(name, ""))
    same = secrets.compare_digest(password.encode(), known.encode())
    return name if kind.lower() == "basic" and known and same else ""


class _Collector:
    """The figures of one answer. No names of programs, and nothing of who runs what.

    Args:
        page: whose they are.
        disk: whether the disk is told of.
    """

    def __init__(self, page: Page, disk: bool) -> None:
        self._page = page
        self._disk = disk

    def collect(self) -> Iterator[GaugeMetricFamily]:
        from prometheus_client.core import GaugeMetricFamily

        dashboard = self._page.studio.dashboard
        snapshot = dashboard.monitor.snapshot()
        for name, about, attribute in (
            ("gpu_memory_total_bytes", "Memory of the card.", "total_bytes"),
            ("gpu_memory_used_bytes", "Memory in use, of all programs.", "used_bytes"),
            ("gpu_utilisation_ratio", "Busy share, 0 to 1.", "utilisation"),
            ("gpu_temperature_celsius", "Temperature of the GPU.", "temperature_c"),
            ("gpu_power_watts", "Power drawn.", "power_w"),
        ):
            family = GaugeMetricFamily(f"{_PREFIX}_{name}", about, labels=("gpu", "name"))
            for device in snapshot.devices:
                value = getattr(device, attribute)
                if value is not None:
                    family.add_metric((str(device.index), device.name), value)
            yield family
        host, disk = snapshot.host, snapshot.disk
        for name, about, value in (
            ("host_memory_total_bytes", "Memory this machine may use.", host.memory_bytes),
            ("host_memory_available_bytes", "Memory still free.", host.available_bytes),
            ("host_utilisation_ratio", "Busy share of the processors.", host.utilisation),
            ("disk_total_bytes", "Disk of the home folder.", disk.total_bytes),
            ("disk_free_bytes", "Free on it.", disk.free_bytes),
            ("worker_up", "Whether a worker process runs.", float(bool(dashboard.worker_pid))),
        ):
            if self._disk or not name.startswith("disk_"):
                yield GaugeMetricFamily(f"{_PREFIX}_{name}", about, value=value)
        jobs = GaugeMetricFamily(f"{_PREFIX}_jobs", "Jobs that wait or run.", labels=("state",))
        for state, count in dashboard.counts().items():
            jobs.add_metric((state,), count)
        yield jobs
