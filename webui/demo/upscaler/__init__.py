"""The embedded upscaler: a small Swin2SR for frames of twice and of four times the size.

`pictures` fetches photographs that are free to use and draws some, `network` makes the network,
`train` trains it. Run as `python -m webui.demo.upscaler`.
"""

from pathlib import Path

SCALES = (2, 4)


def checkpoint(scale: int) -> Path:
    """The folder of the trained checkpoint, as transformers reads it."""
    return Path(__file__).parent / f"x{scale}"
