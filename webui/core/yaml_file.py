"""Reads the cards of GPUs and models: YAML files of the project and of the machine's owner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, where the binding has it: eight times as fast, and every start reads the catalogue."""


def load_file(path: Path) -> Any:
    """What a file holds. What people write in the app goes through `storage.yaml_text` instead.

    Raises:
        OSError, UnicodeError, yaml.YAMLError: it cannot be read, or is not YAML.
    """
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
