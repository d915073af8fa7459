"""Documents on the processor: text and its place on the page, by RapidOCR's embedded models."""

from webui.pipelines.ocr.load import load
from webui.pipelines.ocr.run import run

__all__ = ["load", "run"]
