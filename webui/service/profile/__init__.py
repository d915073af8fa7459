"""The profiler: a matrix of configurations, each run through the normal flow and recorded."""

from webui.service.profile.matrix import read_matrix
from webui.service.profile.rows import Row
from webui.service.profile.running import Outcome, Profiler, ProfileRun

__all__ = ["Outcome", "ProfileRun", "Profiler", "Row", "read_matrix"]
