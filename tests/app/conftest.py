"""One running app for the module's tests: on loopback, and as a public server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from gradio_client import Client

from tests.app.running import RunningStudio, running_studio


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStudio]:
    with running_studio(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture(scope="session")
def public_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStudio]:
    with running_studio(tmp_path_factory.mktemp("public"), host="0.0.0.0") as running:
        yield running


@pytest.fixture
def connect(tmp_path: object) -> Iterator[Callable[[RunningStudio], Client]]:
    """Makes clients; each is a visitor of its own on a public server."""
    clients: list[Client] = []

    def new_client(running: RunningStudio) -> Client:
        client = Client(running.address, verbose=False, download_files=str(tmp_path))
        clients.append(client)
        return client

    yield new_client
    for client in clients:
        client.close()


@pytest.fixture
def client(studio: RunningStudio, connect: Callable[[RunningStudio], Client]) -> Client:
    return connect(studio)
