"""The memory policy of studio.yaml really acts, and says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from webui.catalogue import find_model
from webui.core.parse import parse_request
from webui.core.plan import Plan
from webui.service.planner import Planner
from webui.service.questions import Questions
from webui.storage import Ledger, MemoryPolicy, StudioConfig

FP32 = {"precision": "fp32", "vae_precision": "fp32"}
SMALL, LARGE = "rtx-3060-12gb", "rtx-4090"


class Owner:
    """A planner whose owner changes the configuration while it runs."""

    def __init__(self, folder: Path) -> None:
        self.config = StudioConfig()
        self.ledger = Ledger(folder / "ledger.sqlite", "here")
        self.planner = Planner(self.ledger, lambda: self.config)

    def set(self, **policy: object) -> None:
        self.config = replace(self.config, memory=MemoryPolicy(**policy))  # type: ignore[arg-type]

    def plan(self, **data: object) -> Plan:
        return self.planner.plan(parse_request(data, find_model))


@pytest.fixture
def owner(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDIO_DEVICE", "cpu")
    owner = Owner(tmp_path)
    yield owner
    owner.ledger.close()


def said(plan: Plan, text: str) -> bool:
    return any(text in reason.en for reason in plan.reasons)


def test_small_cards_never_run_in_fp32(owner):
    svd = {"model": "svd-xt", "frames": 4, "settings": FP32}
    assert owner.plan(**svd, card=SMALL).settings["precision"] == "fp32", "as it was named"
    owner.set(force_fp16_threshold=16)
    plan = owner.plan(**svd, card=SMALL)
    assert plan.settings["precision"] == plan.settings["vae_precision"] == "fp16"
    choice = plan.choices["precision"]
    assert not choice.by_user and "fp16 in place of fp32" in choice.why.en
    assert said(plan, "fp16 in place of fp32 (precision)") and said(plan, "16 GiB")
    assert plan.request.settings == FP32, "what was asked is recorded as it was asked"
    large = owner.plan(**svd, card=LARGE)
    assert large.settings["precision"] == "fp32" and not said(large, "in place of")
    # A limit that the request names is the card's memory.
    assert owner.plan(**svd, card=LARGE, vram_gib=12).settings["precision"] == "fp16"
    owner.set(force_fp16_threshold=0)
    assert owner.plan(**svd, card=SMALL).settings["precision"] == "fp32"
    owner.set(force_fp16_threshold=48)
    assert owner.plan(**svd, card=LARGE).settings["precision"] == "fp16"


def test_the_models_own_half_precision_is_taken_and_the_authors_vae_stays(owner):
    owner.set(force_fp16_threshold=16)
    wan = {"model": "wan2.1-t2v-1.3b", "frames": 5, "settings": FP32}
    plan = owner.plan(**wan, card=SMALL)
    assert (plan.settings["precision"], plan.settings["vae_precision"]) == ("bf16", "fp32")
    assert owner.plan(**wan, card="rtx-2080-ti").settings["precision"] == "fp16", "no bf16 there"
    trained = owner.plan(
        task="train", model="omnisvg-4b", image_size=224, sequence_length=256, lora_rank=4,
        card=SMALL, settings={"precision": "fp32"},
    )  # fmt: skip
    assert trained.settings["precision"] == "bf16"
    demo = owner.plan(model="demo", settings={"precision": "fp32"})
    assert demo.settings["precision"] == "fp32", "a processor is no small card"


def test_estimates_answer_for_what_is_named(owner):
    request = parse_request({"model": "svd-xt", "card": SMALL, "settings": FP32}, find_model)
    assert owner.planner.estimate(request).settings["precision"] == "fp32"


def test_the_smallest_card_is_asked_as_the_policy_has_it(owner):
    owner.set(force_fp16_threshold=16)
    questions = Questions(owner.planner)
    fixed = FP32 | {"offload": "none"}
    request = parse_request({"model": "svd-xt", "frames": 2, "settings": fixed}, find_model)
    small = questions.ask(request, smallest="card").plan
    assert small.settings["precision"] == "fp16" and small.fits
    owner.set(force_fp16_threshold=0)
    exact = questions.ask(request, smallest="card").plan
    assert exact.settings["precision"] == "fp32"
    assert exact.estimate.limit_bytes > small.estimate.limit_bytes


def test_without_auto_optimize_what_is_open_takes_its_default(owner):
    owner.set(auto_optimize=False)
    wan = {"model": "wan2.1-t2v-1.3b", "frames": 17, "card": LARGE}
    plan = owner.plan(**wan, settings={"vae_tiling": True})
    assert plan.settings["offload"] == "none" and plan.settings["channels_last"] is False
    assert plan.settings["text_encoder"] == "gpu", "a run has a prompt to encode"
    assert said(plan, "auto_optimize is off")
    assert plan.choices["offload"].why.en == "The default: auto_optimize is off."
    assert not plan.choices["offload"].by_user and plan.choices["vae_tiling"].by_user
    assert plan.request.settings == {"vae_tiling": True}
    owner.set()
    assert not said(owner.plan(**wan), "auto_optimize")


def test_defaults_that_do_not_fit_are_refused_with_what_would(owner):
    owner.set(auto_optimize=False)
    wan = {"model": "wan2.1-t2v-1.3b", "frames": 17, "card": SMALL}
    plan = owner.plan(**wan)
    assert not plan.fits and "does not fit" in plan.reasons[0].en
    offer = plan.alternatives[0]
    assert "offload" in offer.text.en
    applied = owner.plan(**wan, settings=offer.changes["settings"])
    assert applied.fits
    questions = Questions(owner.planner)
    fixed = {"offload": "model", "text_encoder": "cpu"}
    request = parse_request(wan | {"settings": fixed}, find_model)
    most = questions.ask(request, most="frames").plan
    assert most.fits and most.settings["vae_tiling"] is False


def test_calibration_follows_the_configuration(owner, monkeypatch):
    asked = []
    kept = owner.planner._calibration.of
    monkeypatch.setattr(owner.planner._calibration, "of", lambda *a: asked.append(1) or kept(*a))
    owner.plan(model="demo")
    assert len(asked) == 1
    owner.config = replace(owner.config, calibration=False)
    owner.plan(model="demo", steps=4)
    assert len(asked) == 1
