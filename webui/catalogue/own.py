"""The owner's own model cards: a folder beside presets and outputs, read with those that ship.

The folder is in the environment, so that the processes that the studio starts know it too: the
worker, and the tracer.
"""

from __future__ import annotations

import os
from pathlib import Path

ENVIRONMENT = "STUDIO_MODELS"


def own_models() -> Path | None:
    """The folder; None where there is none."""
    named = os.environ.get(ENVIRONMENT, "")
    return Path(named) if named and Path(named).is_dir() else None


def own_cards() -> list[Path]:
    """The files of the owner's cards, in order."""
    folder = own_models()
    return sorted(folder.glob("*.yaml"), key=lambda path: path.stem) if folder else []
