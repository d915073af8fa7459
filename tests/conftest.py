"""What all tests share: how they are spread over processes, and what the collector leaves alone."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

import pytest

APART = frozenset(
    f"tests/unit/tracing/test_{name}.py"
    for name in (
        "quantized_templates",
        "step_caches_follow_the_loop",
        "svd_templates",
        "templates_follow_the_loop",
        "writing_templates",
    )
)
"""Files of many long tests that share nothing: each goes to the process that is free."""
ONE_APP = ("tests/app/", "tests/browser/")
"""Folders whose tests share a running app, which starts once if they stay together."""


def scope_of(test: str) -> str:
    """What stays together: the tests of a folder, those of a file, or one alone."""
    file = test.partition("::")[0]
    if file in APART:
        return test
    return next((folder for folder in ONE_APP if file.startswith(folder)), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where tests run in several processes (`--dist loadscope`), by `scope_of`.

    Scopes of many tests come first, so single tests fill up the end. (Groups by mark, `--dist
    loadgroup`, are lost in pytest 9: xdist 3.8 writes them to a name that is no longer read.)
    """
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class ByWhatIsShared(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

    return ByWhatIsShared(config, log) if config.getoption("dist") == "loadscope" else None


def pytest_collection_finish() -> None:
    """Leaves out of every later collection what has been imported by now, and stays
    (`_imports_stay_left_out`).

    Each recording on the meta device begins with a full collection, which otherwise goes through
    all of torch and diffusers again.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _unfrozen() -> Iterator[list[None]]:
    """Has an entry where a worker's run has ended since it was last empty. Asking the collector
    itself (`gc.get_freeze_count`) counts a million objects, at every test."""
    ended: list[None] = []
    unfreeze = gc.unfreeze
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "unfreeze", lambda: ended.append(unfreeze()))
        yield ended


@pytest.fixture(autouse=True)
def _imports_stay_left_out(_unfrozen: list[None]) -> Iterator[None]:
    """A worker's run ends with nothing left out."""
    yield
    if _unfrozen:
        _unfrozen.clear()
        gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_listens_to_torch() -> Iterator[None]:
    """Fails the test after which torch's calls still go through a counter of bytes or a recording:
    a later test would be measured, or not compile, because of it."""
    before = _listeners()
    yield
    assert _listeners() == before


def _listeners() -> int:
    if "torch" not in sys.modules:
        return 0
    from torch._C import _len_torch_dispatch_stack

    return int(_len_torch_dispatch_stack())
