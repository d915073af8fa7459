"""Whether models' weights are here, and their downloads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from webui.catalogue import find_model
from webui.core.errors import MissingWeights
from webui.core.text import Text
from webui.storage import Download, DownloadProgress, StudioConfig, find_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsState:
    """Whether a model can run here, and how its download stands."""

    available: bool
    source: Text
    """Where the weights are, or what is wrong."""
    download_bytes: int
    folder: str
    progress: DownloadProgress | None


class Downloads:
    """The downloads of one studio, at most one of each model at a time.

    Args:
        config: the owner's choices as they are now.
    """

    def __init__(self, config: Callable[[], StudioConfig]) -> None:
        self._config = config
        self._running: dict[str, Download] = {}
        self._starting = threading.Lock()

    def state(self, name: str) -> WeightsState:
        """Whether the model's weights are here."""
        card = find_model(name)
        download = self._running.get(name)
        progress = download.progress() if download else None
        try:
            source = find_weights(card, self._config())
            about = source.about if source else Text("not on this machine", "不在本机")
        except MissingWeights as error:
            source, about = None, error.message
        return WeightsState(
            available=source is not None,
            source=about,
            download_bytes=card.download_bytes,
            folder=source.folder if source else "",
            progress=progress,
        )

    def start(self, name: str) -> None:
        """Fetches a model's weights in the background.

        Raises:
            NotEnoughDisk: there is no room.
            MissingWeights: the hub cannot be reached.
        """
        with self._starting:  # or two clicks at once would both find none
            running = self._running.get(name)
            if running is not None and running.progress().state == "running":
                return
            download = Download(find_model(name), self._config())
            download.start()
            self._running[name] = download

    def cancel(self, name: str) -> None:
        """Stops a download; what was fetched stays for the next one."""
        download = self._running.get(name)
        if download is not None:
            download.cancel()

    def close(self) -> None:
        """Stops them all."""
        for download in self._running.values():
            download.cancel()
