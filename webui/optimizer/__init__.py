"""Step one of the flow: from a request and a card to a plan."""

from webui.optimizer.plan import make_estimate, make_plan

__all__ = ["make_estimate", "make_plan"]
