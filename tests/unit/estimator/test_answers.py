"""Answers that are kept are those that asking anew gives."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.unit.estimator.estimating import random_requests, target
from webui.catalogue import find_model
from webui.core.errors import BadInput
from webui.core.parse import parse_request
from webui.core.settings import with_defaults
from webui.estimator.case import Case
from webui.estimator.families import find_family


@pytest.mark.parametrize("data", random_requests(40, seed=7), ids=range(40))
def test_a_kept_answer_is_the_answer(data: dict[str, Any]) -> None:
    """What a phase is said not to depend on changes nothing of it."""
    chance = random.Random(str(data))
    changes = {"guidance": chance.choice((1.0, 5.0)), "steps": chance.choice((1, 40))}
    for asked in (data, data | changes):
        request = parse_request(asked, find_model)
        model = find_model(request.model)
        case = Case(
            model, request, with_defaults(request.settings, model.settings), target("rtx-4090")
        )
        memory = find_family(model).memory(model, request, case.settings, case.rules)
        assert case.phases == memory.phase_names()
        for phase in case.phases:
            asked_anew = memory.phase(phase).peak_live_bytes(with_scratch=True)
            assert case.peak_bytes(phase) == asked_anew, phase


def test_the_number_of_steps_decides_which_experts_run() -> None:
    model = find_model("wan2.2-t2v-a14b")
    common = {"model": model.name, "height": 480, "width": 832}

    def phases(steps: int) -> tuple[str, ...]:
        request = parse_request({**common, "steps": steps}, find_model)
        return Case(model, request, with_defaults({}, model.settings), target()).phases

    assert "denoise_low" not in phases(1)
    assert "denoise_low" in phases(40)
    assert "denoise_low" not in phases(1)


def test_a_clip_between_two_pictures_has_both() -> None:
    model = find_model("wan2.1-flf2v-14b")
    assert model.min_frames == 5 and model.snap_frames(1) == 5
    with pytest.raises(BadInput) as refused:
        parse_request({"model": model.name, "frames": 1}, find_model)
    assert refused.value.field == "frames"


def test_more_than_any_card_is_estimated_too() -> None:
    asked = {"model": "qwen3-4b", "prompt_tokens": 262143, "new_tokens": 1, "batch": 256}
    request = parse_request(asked, find_model)
    model = find_model("qwen3-4b")
    settings = with_defaults({"precision": "fp16"}, model.settings)
    case = Case(model, request, settings, target("v100-32gb"))
    assert not case.fits
    peak = max(case.replay(phase, unlimited=True).reserved_bytes for phase in case.phases)
    assert peak >= case.peaks_bytes[0]
