"""Starts VRAM Studio: builds the one `gr.Blocks` as `demo` and launches it.

`python app.py --help` lists the options. Everything else is in `webui/`.
"""

import sys

from webui.ui.app import build_app, launch_options
from webui.ui.launch import build_studio, read_arguments

arguments = read_arguments(sys.argv[1:] if __name__ == "__main__" else [])
demo = build_app(build_studio(arguments), arguments.access)

if __name__ == "__main__":
    demo.launch(**arguments.address(), **launch_options(demo))
