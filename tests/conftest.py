"""What all tests share: how they are spread over processes, and what the collector leaves alone."""

from __future__ import annotations

import gc

import pytest

RUNNING_APP = {"studio", "public_studio"}
"""Fixtures of a folder that start the app."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Says which tests stay together under `--dist loadgroup`: those of a file, which share fixtures
    and what they have made; all that use the running app of a folder, so that it starts once; and
    none of those that are marked `apart`."""
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        if item.get_closest_marker("apart") is not None:
            continue
        together = item.path
        if RUNNING_APP & set(getattr(item, "fixturenames", ())):
            together = item.path.parent
        item.add_marker(pytest.mark.xdist_group(together.relative_to(config.rootpath).as_posix()))


def pytest_collection_finish() -> None:
    """Leaves out of every later collection what has been imported by now, and stays.

    Each recording on the meta device begins with a full collection, which otherwise goes through
    all of torch and diffusers again.
    """
    gc.collect()
    gc.freeze()
