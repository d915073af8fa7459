"""The flow: request, plan, worker, receipt, ledger. The only door for the page and the command
line."""

from webui.service.access import Access
from webui.service.downloads import WeightsState
from webui.service.runs import RunSummary
from webui.service.studio import Studio

__all__ = ["Access", "RunSummary", "Studio", "WeightsState"]
