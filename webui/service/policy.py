"""The owner's memory policy, applied to a request before it is planned (`memory` in studio.yaml).

`force_fp16_threshold` (0, off, unless the owner sets it): on a GPU with less memory (GiB;
`vram_gib` where the request names it) the model never runs in fp32. A request that fixes fp32 is
planned in the model's own half precision: bf16 for most, fp16 for SVD and on cards without bf16;
both take the same memory, and the authors' own loses the least. The same goes for
`vae_precision`, but not where the authors themselves run the VAE in fp32 (Wan): there fp32 is the
usual quality, its weights are 0.5 GiB, and the optimizer turns to half precision itself when it
has to. `estimate` never runs anything: it answers for the settings as they are named.

`auto_optimize: false`: what a request leaves open is not searched but takes `estimate`'s default,
except that the text encoder, whose default is `absent`, is on the card: a run has a prompt to
encode. After a run that ran out of memory it is searched all the same: its defaults have failed
(`webui.service.attempts`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from webui.core.model import ModelCard
from webui.core.plan import Alternative, Choice, Plan
from webui.core.request import Request
from webui.core.setting import spelt
from webui.core.settings import SETTINGS, with_defaults
from webui.core.text import Text
from webui.core.units import GIB
from webui.estimator.target import Target
from webui.optimizer.candidates import effective_settings, own_defaults
from webui.storage import MemoryPolicy

PRECISIONS = ("precision", "vae_precision")
"""Settings that `force_fp16_threshold` is about."""
_NOT_SEARCHED = Text(
    "auto_optimize is off in studio.yaml: what is left open takes its default.",
    "studio.yaml 中 auto_optimize 已关闭：未指定的设置采用默认值。",
)
_DEFAULT = Text("The default: auto_optimize is off.", "默认值：auto_optimize 已关闭。")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruled:
    """A request as the policy has it planned."""

    asked: Request
    """As the user gave it."""
    request: Request
    """What is planned: with other settings, or with all of them fixed."""
    halved: Mapping[str, Text] = field(default_factory=dict)
    """Settings that were fixed to fp32, and why they are not."""
    searched: bool = True
    """What is open is chosen; else it is fixed to its default."""

    def explained(self, plan: Plan) -> Plan:
        """The plan of `request` as the answer to what was asked."""
        named = self.asked.settings.keys() - self.halved.keys()
        choices = {
            name: replace(choice, by_user=name in named, why=self._why(name, choice))
            for name, choice in plan.choices.items()
        }
        sentences = [text for name, text in self.halved.items() if name in plan.settings]
        if not self.searched:
            sentences.append(_NOT_SEARCHED)
        # What does not fit is said first: errors repeat the first reason.
        reasons = (*plan.reasons, *sentences) if not plan.fits else (*sentences, *plan.reasons)
        return replace(plan, request=self.asked, choices=choices, reasons=reasons)

    def _why(self, name: str, choice: Choice) -> Text:
        if name in self.halved:
            return self.halved[name]
        if not self.searched and name not in self.asked.settings:
            return _DEFAULT
        return choice.why


def apply_policy(policy: MemoryPolicy, model: ModelCard, request: Request, target: Target) -> Ruled:
    """What is planned for a request.

    Args:
        policy: the owner's.
        model: the request's.
        request: the workload and fixed settings.
        target: the device.
    """
    halved = _halved(policy, model, request, target)
    ruled = request
    if halved:
        halves = _halves(model, request, target)
        ruled = request.with_changes(
            settings=request.settings | {name: halves[name] for name in halved}
        )
    if not policy.auto_optimize:
        own = own_defaults(model, ruled, target)
        settings = with_defaults(ruled.settings, model.settings, own)
        if settings.get("text_encoder") == "absent" and "text_encoder" not in ruled.settings:
            settings["text_encoder"] = "gpu"
        # On a processor some settings mean nothing; fixing those would be told as a mistake.
        named = {*effective_settings(model, target), *request.settings}
        ruled = ruled.with_changes(
            settings={name: value for name, value in settings.items() if name in named}
        )
    return Ruled(asked=request, request=ruled, halved=halved, searched=policy.auto_optimize)


def offer_of(searched: Plan, ruled: Ruled) -> Alternative | None:
    """What the optimizer would choose, spelled out; for a plan of defaults that does not fit."""
    if not searched.fits:
        return None
    fixed = ruled.request.settings
    changes = {
        name: value
        for name, value in searched.settings.items()
        if name in searched.choices and fixed.get(name, value) != value
    }
    if not changes:
        return None
    listed = ", ".join(f"{name}: {spelt(value)}" for name, value in changes.items())
    return Alternative(
        text=Text(f"Fits with {listed}", f"改用 {listed} 即可放下"), changes={"settings": changes}
    )


def memory_limit_bytes(request: Request, target: Target) -> int:
    """The memory of the card that a request is about: what it names, else the card's own."""
    if request.vram_gib is not None:
        return int(request.vram_gib * GIB)
    return target.card.vram_bytes


def _halves(model: ModelCard, request: Request, target: Target) -> dict[str, str]:
    """The model's own half precision by setting; what its authors run in fp32 has none."""
    own = own_defaults(model, request, target)
    values = {
        name: str(own.get(name, SETTINGS[name].default))
        for name in PRECISIONS
        if name in model.settings
    }
    return {
        name: value
        for name, value in values.items()
        if value != "fp32" and value in model.setting_values.get(name, SETTINGS[name].choices)
    }


def _halved(
    policy: MemoryPolicy, model: ModelCard, request: Request, target: Target
) -> dict[str, Text]:
    threshold = policy.force_fp16_threshold
    small = memory_limit_bytes(request, target) < threshold * GIB
    if target.card.kind != "cuda" or not small:
        return {}
    return {
        name: Text(
            f"{value} in place of fp32 ({name}): this studio runs cards below {threshold:g} GiB "
            "in half precision (force_fp16_threshold).",
            f"{name} 由 fp32 改为 {value}：本站规定 {threshold:g} GiB 以下的显卡使用半精度"
            "（force_fp16_threshold）。",
        )
        for name, value in _halves(model, request, target).items()
        if request.settings.get(name) == "fp32"
    }
