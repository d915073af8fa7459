"""`python -m webui.documents INPUT --dpi N --pages P`: counts and measures pages, as JSON.

A process of its own, because it opens files of strangers: whatever a decoder does, the studio goes
on. It may use little memory and little time.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import suppress
from pathlib import Path

from webui.core.documents import MAX_SIDE_PX, is_page, page_numbers, range_text
from webui.core.errors import StudioError
from webui.core.units import GIB
from webui.documents.sources import Source

MOST_MEASURED = 2000
"""Pages whose size is looked at; the plan is for the largest of them."""
MEMORY_BYTES = 4 * GIB
"""Of addresses, which libraries reserve more of than they use."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m webui.documents")
    parser.add_argument("input", type=Path)
    parser.add_argument("--dpi", type=int, required=True)
    parser.add_argument("--pages", default="all")
    given = parser.parse_args(arguments)
    _limit_memory()
    try:
        with Source(given.input, given.dpi) as source:
            numbers = page_numbers(given.pages, source.pages)
            height, width = _largest(source, numbers)
    except StudioError as error:
        print(json.dumps({"error": error.to_json()}))
        return 1
    print(json.dumps({"pages": range_text(numbers), "height": height, "width": width}))
    return 0


def _largest(source: Source, numbers: list[int]) -> tuple[int, int]:
    """Height and width of the page with most pixels; those that cannot be opened are left out."""
    sizes = [(1, 1)]
    for number in numbers[:MOST_MEASURED]:
        with suppress(StudioError):
            size = source.size(number)
            if is_page(*size):
                sizes.append(size)
    height, width = max(sizes, key=lambda size: size[0] * size[1])
    shrink = min(1.0, MAX_SIDE_PX / max(height, width))
    return max(1, int(height * shrink)), max(1, int(width * shrink))


def _limit_memory() -> None:
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


if __name__ == "__main__":
    sys.exit(main())
