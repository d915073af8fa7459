"""Visitors' questions of many searches take turns; the owner's do not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from webui.core.errors import NotAllowed
from webui.service import Studio
from webui.service.limits import COSTLY_AT_ONCE, VisitorTurns
from webui.service.questions import Questions

COSTLY: list[dict[str, Any]] = [{"most": "frames"}, {"smallest": "card"}, {"frontier": True}]


@contextmanager
def taken(turns: VisitorTurns, count: int = COSTLY_AT_ONCE) -> Iterator[ExitStack]:
    """Turns that other visitors have."""
    with ExitStack() as others:
        for number in range(count):
            others.enter_context(turns.turn(owner=False, visitor=f"other {number}"))
        yield others


def test_two_at_a_time_and_the_third_is_told_that_the_studio_is_busy() -> None:
    turns = VisitorTurns(wait_s=0.05)
    with taken(turns):
        began = time.monotonic()
        with pytest.raises(NotAllowed) as refused, turns.turn(owner=False):
            pass
        assert 0.04 < time.monotonic() - began < 5
        assert "busy" in refused.value.message.en and "ry again" in refused.value.hint.en
        assert refused.value.message.zh and refused.value.hint.zh
        with turns.turn(owner=True):
            pass
    with taken(turns):  # all were given back, that of the refused one too
        pass


def test_a_visitor_has_one_question_at_a_time() -> None:
    turns = VisitorTurns(wait_s=30)
    with turns.turn(owner=False, visitor="one"):
        began = time.monotonic()
        with pytest.raises(NotAllowed), turns.turn(owner=False, visitor="one"):
            pass
        assert time.monotonic() - began < 5
        with turns.turn(owner=False, visitor="two"):
            pass
    with turns.turn(owner=False, visitor="one"):
        pass


def test_who_waits_comes_in_when_a_turn_is_given_back() -> None:
    turns, came = VisitorTurns(at_once=1, wait_s=30), threading.Event()

    def ask() -> None:
        with turns.turn(owner=False):
            came.set()

    thread = threading.Thread(target=ask)
    with taken(turns, 1):
        thread.start()
        assert not came.wait(0.1)
    assert came.wait(10)
    thread.join()


def test_no_more_wait_than_the_page_has_threads_for() -> None:
    turns = VisitorTurns(at_once=1, waiting=0, wait_s=30)
    with taken(turns, 1):
        began = time.monotonic()
        with pytest.raises(NotAllowed), turns.turn(owner=False):
            pass
        assert time.monotonic() - began < 5


def test_a_question_that_fails_gives_its_turn_back() -> None:
    turns = VisitorTurns(at_once=1, wait_s=0.05)
    with pytest.raises(ValueError), turns.turn(owner=False):
        raise ValueError
    with turns.turn(owner=False):
        pass


@pytest.mark.parametrize("question", COSTLY, ids=str)
def test_which_questions_take_turns(local: Studio, question: dict[str, Any]) -> None:
    turns = VisitorTurns(wait_s=0.05)
    questions = Questions(local._planner, turns)
    request = local.parse({"model": "demo", "card": "rtx-4090"})
    with taken(turns):
        assert questions.ask(request, explain=True).plan.fits
        with pytest.raises(NotAllowed):
            questions.ask(request, **question)
        assert questions.ask(request, **question, owner=True).plan.fits
    assert questions.ask(request, **question).plan.fits


def test_the_pages_three_questions_are_one_turn(local: Studio) -> None:
    turns = VisitorTurns(wait_s=0.05)
    questions = Questions(local._planner, turns)
    request = local.parse({"model": "demo", "card": "rtx-4090"})
    with taken(turns):
        with pytest.raises(NotAllowed):
            questions.limits(request)
        assert len(questions.limits(request, owner=True)) == 3
    with taken(turns, COSTLY_AT_ONCE - 1):
        assert [answer.question for answer in questions.limits(request)] == [
            "frames", "size", "card",
        ]  # fmt: skip
