"""`python -m webui.storage.metadata_child FILE`: writes the JSON of standard input into a file.

A process of its own, for files that hold something of a stranger's, as an upscaled video does with
its sound. Prints `{"embedded": ...}`, or `{"error": ...}`.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

from webui.core.errors import StudioError
from webui.core.units import GIB
from webui.storage.metadata import embed_metadata

_MOST_BYTES = 8 * GIB
"""Of addresses, which libraries reserve more of than they use."""


def main() -> int:
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    try:
        done = embed_metadata(Path(sys.argv[1]), json.load(sys.stdin))
    except StudioError as error:
        print(json.dumps({"error": error.to_json()}))
        return 1
    print(json.dumps({"embedded": done}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
