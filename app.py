"""Starts VRAM Studio: builds the one `gr.Blocks` as `demo` and launches it.

`python app.py --help` lists the options. Everything else is in `webui/`.
"""

import gc
import signal
import sys

from webui.ui.app import build_app
from webui.ui.launch import build_studio, read_arguments

arguments = read_arguments(sys.argv[1:] if __name__ == "__main__" else [])
studio = build_studio(arguments)
demo, options = build_app(studio, arguments.access)
# What is built stays: to search it for garbage again would hold answers up by 0.1 s.
gc.collect()
gc.freeze()

if __name__ == "__main__":
    # A service manager's way to stop it: the worker and downloads end with the page.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        demo.launch(**arguments.address(), **options)
    finally:
        studio.close()
