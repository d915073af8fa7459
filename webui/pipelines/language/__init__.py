"""Language models: load or build the pipeline, and write."""

from webui.pipelines.language.run import prompt_tokens, run
from webui.pipelines.text_model import build_meta, build_random, load

__all__ = ["build_meta", "build_random", "load", "prompt_tokens", "run"]
