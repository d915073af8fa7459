"""`python -m webui.service.analysis FILE`: the peak of one trace or snapshot, as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from webui.core.errors import StudioError
from webui.service.analysis.reading import read_peak


def main() -> None:
    """Prints `{"peak": ...}`, or `{"error": ...}` in both languages."""
    try:
        answer = {"peak": read_peak(Path(sys.argv[1])).to_json()}
    except StudioError as error:
        answer = {"error": error.to_json()}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
