"""Documents: load or build a vision-language model of the Qwen family, and read pages."""

from webui.pipelines.qwen_vl.pages import batch_inputs
from webui.pipelines.qwen_vl.run import run
from webui.pipelines.text_model import build_meta, build_random, load

__all__ = ["batch_inputs", "build_meta", "build_random", "load", "run"]
