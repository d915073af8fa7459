"""The embedded demo model: a small Wan checkpoint that draws moving coloured shapes.

`vocabulary` says what it can draw, `drawing` draws the training clips, `judge` reads a clip back,
`train_*` make the checkpoint, `evaluate` measures it. Run as `python -m webui.demo`.
"""

from pathlib import Path

CHECKPOINT = Path(__file__).parent / "checkpoint"
"""The trained checkpoint: an ordinary diffusers folder for `WanPipeline.from_pretrained`."""
