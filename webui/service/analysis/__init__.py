"""Reads what profiled runs left, names the bottleneck, and compares; runs nothing."""

from webui.service.analysis.reading import Analysis, analyse

__all__ = ["Analysis", "analyse"]
