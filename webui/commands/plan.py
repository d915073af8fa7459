"""`plan` and `estimate`."""

from __future__ import annotations

import argparse
from typing import Any

from webui.commands.output import Answer, complain
from webui.service import Studio
from webui.service.account import explanation_text, frontier_text, plan_text
from webui.service.planner import does_not_fit


def plan_one(studio: Studio, data: Any, given: argparse.Namespace) -> tuple[Answer, int]:
    """`plan` and `estimate`, and what is asked beside them."""
    search = given.command == "plan"
    asked = studio.questions.ask(
        studio.videos.counted(studio.documents.counted(studio.parse(data))),
        most=given.most if search else None,
        smallest=given.smallest if search else None,
        explain=given.explain,
        frontier=search and given.frontier,
        search=search,
        owner=True,
    )
    plan = asked.plan
    if not given.json:
        if asked.answer is not None:
            print(asked.answer.text.en)
        print(plan_text(plan))
        if asked.explanation is not None:
            print(explanation_text(asked.explanation))
        if asked.frontier is not None:
            print(frontier_text(asked.frontier))
    if search and not plan.fits:
        complain(does_not_fit(plan))
    return asked.to_json(), 3 if search and not plan.fits else 0
