"""What all tests share: the garbage collector leaves alone what was imported."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """Modules stay until the end, and every test file has been imported by now.

    Each recording on the meta device begins with a full collection, which otherwise goes through
    all of torch and diffusers again.
    """
    gc.collect()
    gc.freeze()
