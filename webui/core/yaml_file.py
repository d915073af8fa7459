"""Reads the cards of GPUs and models: YAML files of the project and of the machine's owner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_QUICK = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, where the binding has it: eight times as fast, and every start reads the catalogue."""


def load_file(path: Path) -> Any:
    """What a file holds. What people write in the app goes through `storage.yaml_text` instead.

    Raises:
        OSError, UnicodeError, yaml.YAMLError: it cannot be read, or is not YAML.
    """
    text = path.read_text(encoding="utf-8")
    try:
        return yaml.load(text, Loader=_QUICK)
    except yaml.YAMLError:
        # The other one takes a little more, and shows the line that is wrong.
        return yaml.safe_load(text)
