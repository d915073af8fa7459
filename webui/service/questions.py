"""What may be asked beside a plan: backwards, why, and what else there was to choose."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from webui.catalogue import find_model
from webui.core.clip import ClipRequest
from webui.core.errors import BadInput
from webui.core.model import ModelCard
from webui.core.pages import PageRequest
from webui.core.plan import Plan
from webui.core.request import Request
from webui.core.text import Text
from webui.core.upscale import UpscaleRequest
from webui.estimator.explain import Explanation, explain_estimate
from webui.optimizer.frontier import Point, find_frontier
from webui.optimizer.inverse import MOST, Answer, find_most, smallest_card
from webui.optimizer.setting_ladders import QUESTIONS, setting_ladders
from webui.service.limits import VisitorTurns
from webui.service.planner import Planner
from webui.service.policy import PRECISIONS
from webui.service.unsupported import unsupported

SMALLEST = ("card",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A plan with what was asked beside it."""

    plan: Plan
    """Of the request that was found, where the question was asked backwards."""
    answer: Answer | None = None
    explanation: Explanation | None = None
    frontier: tuple[Point, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The plan's contract; `answer`, `explanation` and `frontier` where they were asked for."""
        data = self.plan.to_json()
        if self.answer is not None:
            data["answer"] = {
                **self.answer.to_json(),
                "request": self.plan.request.to_json(),
            }
        if self.explanation is not None:
            data["explanation"] = self.explanation.to_json()
        if self.frontier is not None:
            data["frontier"] = [point.to_json() for point in self.frontier]
        return data


class Questions:
    """Asks the optimizer and the estimator on behalf of the command line, the API and the page.

    Args:
        planner: makes the plans.
        turns: when visitors' questions of many searches are answered.
    """

    def __init__(self, planner: Planner, turns: VisitorTurns | None = None) -> None:
        self._planner = planner
        self._turns = turns or VisitorTurns()

    def ask(
        self,
        request: Request,
        *,
        most: str | None = None,
        smallest: str | None = None,
        explain: bool = False,
        frontier: bool = False,
        search: bool = True,
        owner: bool = False,
        visitor: str = "",
    ) -> Answered:
        """A plan, and what else is asked for.

        Args:
            request: the workload and its fixed settings.
            most: `frames`, `size`, ...: find the most of it that fits.
            smallest: `card`: find the smallest card that holds the request.
            explain: take every figure apart.
            frontier: the settings that nothing else beats in memory, time and quality.
            search: choose the open settings (`plan`), or give them their default (`estimate`).
            owner: whether the owner of the machine asks: the plan may name other programs on the
                card, and no question waits for those of visitors.
            visitor: who asks, where that is known.

        Raises:
            BadInput: no such question, or two at once.
            NotAllowed: too many costly questions of visitors.
        """
        costly = bool(most or smallest or frontier)
        with self._turns.turn(owner, visitor) if costly else nullcontext():
            answer = self._find(request, most, smallest) if most or smallest else None
            asked = answer.request if answer else request
            plan = self._planner.plan(asked, owner) if search else self._planner.estimate(asked)
            model = find_model(request.model, request.task)
            target = self._planner.target(plan.request, names=owner)
            return Answered(
                plan=plan,
                answer=answer,
                explanation=explain_estimate(model, plan.request, plan.estimate, target)
                if explain
                else None,
                frontier=find_frontier(
                    model, self._planner.without_fp32(plan.request, target), target, plan.estimate
                )
                if frontier
                else None,
            )

    def limits(
        self, request: Request, owner: bool = False, visitor: str = ""
    ) -> tuple[Answer, ...]:
        """How far a request's card goes, and the smallest card that holds it.

        Of a clip the most frames and the largest size; of pages the largest page and the most at
        once; of upscaling the largest input that needs no tiles and the largest tile.

        Args:
            request: of a task that `has_limits`.
            owner: whether the owner of the machine asks.
            visitor: who asks, where that is known.

        Raises:
            BadInput: a card that cannot do a setting, or no card that can.
            NotAllowed: too many costly questions of visitors.
        """
        with self._turns.turn(owner, visitor):
            found: list[Answer] = []
            model = find_model(request.model, request.task)
            for most in _limits_of(request):
                asked = request
                if most in QUESTIONS and most not in setting_ladders(model, request):
                    continue  # no value of it can be chosen
                if most == "tile" and found[0].found and _holds(found[0].request, request):
                    continue  # nobody needs tiles then
                if most == "size" and isinstance(request, UpscaleRequest):
                    # With tiles there is hardly an input that does not fit.
                    asked = request.with_changes(settings=request.settings | {"tile": 0})
                found.append(self._find(asked, most, None))
            return (*found, self._find(request, None, "card"))

    def _find(self, request: Request, most: str | None, smallest: str | None) -> Answer:
        """The answer to one backward question; `most` or `smallest` as for `ask`.

        Raises:
            BadInput: no such question, none, or two at once; a card that cannot do a setting, or
                no card that can.
        """
        if bool(most) == bool(smallest):
            raise BadInput(
                "smallest" if smallest else "most",
                Text("One question at a time.", "一次只能问一个问题。"),
                Text("Ask for most or for smallest.", "请只用 most 或 smallest 之一。"),
            )
        model = find_model(request.model, request.task)
        self._planner.check_templates(model)
        if smallest:
            _check("smallest", smallest, SMALLEST)
            refusal = self._planner.refused_everywhere(request)
            if refusal is not None:
                raise refusal
            return self._smallest(model, request)
        _check("most", str(most), MOST)
        target = self._planner.target(request)
        refusal = unsupported(self._planner.ruled(request), target.card)
        if refusal is not None:
            raise refusal
        answer = find_most(model, self._planner.ruled(request), target, str(most))
        # What the policy changes, the plan tells; here it stays as it was asked.
        named = {name: request.settings[name] for name in PRECISIONS if name in request.settings}
        found = answer.request
        return replace(answer, request=found.with_changes(settings=found.settings | named))

    def _smallest(self, model: ModelCard, request: Request) -> Answer:
        """The smallest card, each asked as the memory policy has it.

        The policy depends on the card: below its threshold fp32 is another request.
        """
        answer: Answer | None = None
        for card, target in self._planner.cards_for(request):
            asked = self._planner.ruled(request.with_changes(card=card.name, vram_gib=None))
            answer = smallest_card(model, asked, [(card, target)])
            if answer.found:
                break
        assert answer is not None  # some card can do the settings: it was asked before
        return replace(answer, request=answer.request.with_changes(settings=request.settings))


def has_limits(request: Request) -> bool:
    """Whether it can be asked how far a card goes: not for what needs nothing of the card."""
    return bool(_limits_of(request))


def _holds(untiled: Request, request: Request) -> bool:
    """Whether an input is no larger than the largest that needs no tiles."""
    assert isinstance(untiled, UpscaleRequest) and isinstance(request, UpscaleRequest)
    return untiled.height >= request.height


def _limits_of(request: Request) -> tuple[str, ...]:
    """The questions of `limits`, but for the smallest card."""
    if isinstance(request, ClipRequest):
        return ("frames", "size")
    if isinstance(request, PageRequest):
        return ("size", "pages")
    if isinstance(request, UpscaleRequest):
        return ("size", "tile")
    return ()


def _check(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        listed = ", ".join(choices)
        raise BadInput(
            key,
            Text(f"'{value[:40]}' is not a question of {key}.", f"{key} 没有“{value[:40]}”。"),
            Text(f"It takes: {listed}.", f"可用的值：{listed}。"),
        )
