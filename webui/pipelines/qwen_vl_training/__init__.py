"""Fine-tuning of Qwen2.5-VL: load or build the model, then real steps of its optimizer."""

from webui.pipelines.qwen_vl_training.build import build_meta, build_random
from webui.pipelines.qwen_vl_training.components import PHASES, Trainee
from webui.pipelines.qwen_vl_training.load import load
from webui.pipelines.qwen_vl_training.steps import run

__all__ = ["PHASES", "Trainee", "build_meta", "build_random", "load", "run"]
