"""Training steps of the real class at small size: what they change, and what stays as it was."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.unit.pipelines.qwen_card import request_of, settings_of, tiny_qwen
from webui.core.errors import (
    BadInput,
    Cancelled,
    MissingDependency,
    MissingWeights,
    RunFailed,
)
from webui.core.training import TrainRequest
from webui.pipelines import qwen_vl_training
from webui.pipelines.qwen_vl_training import steps
from webui.pipelines.qwen_vl_training.adapters import checkpointed, trainable
from webui.pipelines.qwen_vl_training.components import layers_of
from webui.pipelines.qwen_vl_training.optimizers import build_optimizer
from webui.pipelines.qwen_vl_training.samples import IGNORED, build_batch
from webui.pipelines.qwen_vl_training.steps import micro_batch

CARD = tiny_qwen(layers=2, blocks=2)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small take longer with more: their threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Recorded:
    """A report that keeps what it is told."""

    def __init__(self, cancel_at: int | None = None) -> None:
        self.phases: list[str] = []
        self.checks = 0
        self._cancel_at = cancel_at

    def begin(self, phase: str, continues: bool = False) -> None:
        assert continues == bool(self.phases)
        self.phases.append(phase)

    def warmed_up(self) -> None:
        self.phases.append("warm")

    def check(self) -> None:
        self.checks += 1
        if self.checks == self._cancel_at:
            raise Cancelled()

    def step(self, done: int, total: int) -> None:
        assert 0 <= done <= total


def build(precision: str = "fp32") -> qwen_vl_training.Trainee:
    return qwen_vl_training.build_random(CARD, settings_of(CARD, precision=precision), "cpu")


def run(pipe: Any, report: Recorded | None = None, **keys: Any) -> list[float]:
    settings = settings_of(CARD, **keys.pop("settings", {}))
    return qwen_vl_training.run(pipe, request_of(CARD, **keys), settings, report or Recorded())


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def changed(before: dict[str, torch.Tensor], model: torch.nn.Module) -> set[str]:
    return {
        name for name, value in model.named_parameters() if not torch.equal(before[name], value)
    }


@pytest.mark.parametrize("optimizer", ["adamw-fused", "adamw"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_steps_change_the_weights(optimizer: str, precision: str) -> None:
    pipe = build(precision)
    before = weights(pipe.model)
    settings = {"optimizer": optimizer, "precision": precision}
    losses = run(pipe, settings=settings)
    assert len(losses) == 2 and all(4 < loss < 8 for loss in losses)  # ln 512 is 6.2
    if precision == "fp32":
        assert changed(before, pipe.model) == set(before)
    else:  # a step of 1e-5 is less than half a unit of a weight of 1 in two bytes
        assert changed(before, pipe.model) > {"model.language_model.layers.0.mlp.up_proj.weight"}


def test_the_optimizers_take_the_same_step() -> None:
    made = []
    for optimizer in ("adamw-fused", "adamw"):
        pipe = build()
        run(pipe, settings={"optimizer": optimizer})
        made.append(weights(pipe.model))
    for name, value in made[0].items():
        torch.testing.assert_close(value, made[1][name], rtol=1e-5, atol=1e-7)


def test_tied_weights_stay_tied() -> None:
    pipe = build()
    run(pipe)
    assert pipe.model.lm_head.weight is pipe.model.model.language_model.embed_tokens.weight


def gradients(
    pipe: Any, request: TrainRequest, checkpoint: bool, passes: int = 1
) -> dict[str, torch.Tensor]:
    generator = torch.Generator("cpu").manual_seed(3)
    with (
        trainable(pipe.model, request.lora_rank) as (model, _),
        checkpointed(pipe.model, checkpoint),
    ):
        for _ in range(passes):
            micro_batch(pipe, model, request, generator, lambda phase: None)
        return {
            name: value.grad.clone()
            for name, value in model.named_parameters()
            if value.grad is not None
        }


@pytest.mark.parametrize("rank", [0, 4])
def test_checkpoints_change_no_gradient(rank: int) -> None:
    request = request_of(CARD, lora_rank=rank, batch=2)
    pipe = build()
    kept = gradients(pipe, request, checkpoint=False)
    torch.manual_seed(0)
    again = gradients(pipe, request, checkpoint=True)
    assert kept.keys() == again.keys() and kept
    for name, value in kept.items():
        if rank and "lora_A" in name:
            continue  # drawn anew; what it is multiplied with starts at zero
        torch.testing.assert_close(value, again[name], rtol=1e-5, atol=1e-8)


def test_checkpoints_compute_each_layer_twice() -> None:
    pipe, calls = build(), 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    handles = [layer.mlp.register_forward_pre_hook(count) for layer in layers_of(pipe.model)]
    for checkpoint, times in ((False, 1), (True, 2)):
        calls = 0
        gradients(pipe, request_of(CARD), checkpoint)
        assert calls == times * len(handles)


def test_accumulation_is_one_larger_batch() -> None:
    """The same words, drawn in two batches of one or in one of two."""
    pipe = build()
    small = request_of(CARD, image_size=0, batch=1, gradient_accumulation=2)
    large = request_of(CARD, image_size=0, batch=2)
    summed = gradients(pipe, small, checkpoint=False, passes=2)
    whole = gradients(pipe, large, checkpoint=False)
    assert any(value.abs().max() > 1e-4 for value in whole.values())
    for name, value in whole.items():
        torch.testing.assert_close(value, summed[name], rtol=1e-4, atol=1e-7)


def test_adapters_alone_are_trained_and_leave_the_model_as_it_was() -> None:
    pipe = build()
    names = [name for name, _ in pipe.model.named_modules()]
    before = weights(pipe.model)
    trained: dict[str, set[str]] = {}
    original = steps.build_optimizer

    def noting(name: str, parameters: list[torch.nn.Parameter]) -> Any:
        ids = {id(value) for value in parameters}
        trained["names"] = {key for key, value in pipe.model.named_parameters() if id(value) in ids}
        return original(name, parameters)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "build_optimizer", noting)
        run(pipe, lora_rank=4)
    projections = 7 * len(pipe.model.model.language_model.layers)
    assert len(trained["names"]) == 2 * projections
    assert all("lora_" in name and "language_model" in name for name in trained["names"])
    assert changed(before, pipe.model) == set()
    assert [name for name, _ in pipe.model.named_modules()] == names


def test_adapters_are_in_the_models_precision() -> None:
    with trainable(build("bf16").model, 4) as (_, parameters):
        assert {value.dtype for value in parameters} == {torch.bfloat16}
        assert all(4 in value.shape for value in parameters)


def test_with_frozen_weights_the_vision_tower_keeps_nothing() -> None:
    """The library would ask for gradients of its patches, and run it backwards for nothing."""
    pipe = build()
    seen: list[bool] = []
    pipe.model.model.visual.register_forward_hook(
        lambda _module, _inputs, output: seen.append(output.pooler_output.requires_grad)
    )
    for checkpoint in (False, True):
        gradients(pipe, request_of(CARD, lora_rank=4), checkpoint)
    assert seen == [False, False]


def test_phases_follow_each_other_in_every_step() -> None:
    report = Recorded()
    run(build(), report, gradient_accumulation=2)
    step = ["forward", "backward"] * 2 + ["optimizer"]
    assert report.phases == ["forward", *step, "warm", *step, "warm"][:-1]


def test_it_stops_at_any_layer_and_is_clean_afterwards() -> None:
    pipe = build()
    whole = Recorded()
    run(pipe, whole)
    layers = len(layers_of(pipe.model))
    # Each pass asks at every layer on both ways, and each phase once; older libraries once more
    # where a layer is computed again.
    assert whole.checks in (2 * (2 * layers + 3), 2 * (3 * layers + 3))
    before = weights(pipe.model)
    hooks = [len(layer._forward_hooks) for layer in layers_of(pipe.model)]
    for place in range(1, layers * 2 + 2):
        with pytest.raises(Cancelled):
            run(pipe, Recorded(cancel_at=place), lora_rank=4)
        assert all(value.grad is None for value in pipe.model.parameters())
        assert [len(layer._forward_hooks) for layer in layers_of(pipe.model)] == hooks
    assert changed(before, pipe.model) == set() and not pipe.model.training
    assert run(pipe)


def test_numbers_that_overflow_end_the_run() -> None:
    pipe = build()
    torch.nn.init.constant_(pipe.model.lm_head.weight, float("inf"))
    with pytest.raises(RunFailed):
        run(pipe)


def test_samples_are_as_the_processor_makes_them() -> None:
    pipe, request = build(), request_of(CARD, image_size=150, batch=2)
    batch = build_batch(pipe, request, torch.Generator("cpu").manual_seed(0))
    tokens = CARD.image_tokens(150)
    assert tokens == 25  # 150 px become 140
    assert batch["input_ids"].shape == batch["labels"].shape == (2, 48)
    pictured = batch["input_ids"] == CARD.configs["model"]["image_token_id"]
    assert pictured.sum(dim=1).tolist() == [tokens, tokens]
    assert bool((batch["labels"][pictured] == IGNORED).all())
    assert batch["pixel_values"].shape == (2 * tokens * 4, 3 * 2 * 14 * 14)
    assert batch["pixel_values"].dtype == torch.float32
    assert batch["position_ids"].shape == (3, 2, 48)


def test_what_is_made_ready_changes_no_loss() -> None:
    """The same sample without what `build_batch` computes ahead for the vision tower."""
    pipe, request = build(), request_of(CARD, image_size=196, sequence_length=64)
    batch = build_batch(pipe, request, torch.Generator("cpu").manual_seed(0))
    plain = {key: batch[key] for key in ("input_ids", "labels", "pixel_values", "image_grid_thw")}
    kinds = (batch["input_ids"] == CARD.configs["model"]["image_token_id"]).int()
    with torch.no_grad():
        ready = pipe.model(**batch, use_cache=False).loss
        own = pipe.model(**plain, mm_token_type_ids=kinds, use_cache=False).loss
    torch.testing.assert_close(ready, own)


def test_eight_bit_states_name_what_brings_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    for device in ("cpu", "cuda"):
        parameter = torch.nn.Parameter(torch.zeros(1, device="meta"))
        monkeypatch.setattr(torch.nn.Parameter, "device", torch.device(device), raising=False)
        with pytest.raises(MissingDependency) as caught:
            build_optimizer("adamw-8bit", [parameter])
        assert "gpu" in caught.value.hint.en and caught.value.field == "settings.optimizer"


@pytest.mark.parametrize("settings", [{"gpus": 2}, {"gpus": 4, "zero_stage": 2}])
def test_several_gpus_are_refused(settings: dict[str, int]) -> None:
    complete = settings_of(CARD, **settings)
    for refused in (
        lambda: qwen_vl_training.load(CARD, complete, {"kind": "random"}, "cpu"),
        lambda: qwen_vl_training.run(build(), request_of(CARD), complete, Recorded()),
    ):
        with pytest.raises(BadInput) as caught:
            refused()
        assert caught.value.field == "settings.gpus" and "planned" in caught.value.message.en


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the library writes it."""
    made = tmp_path_factory.mktemp("checkpoint")
    build().model.save_pretrained(str(made))
    return made


def loaded(folder: Path, card: Any = CARD, **settings: Any) -> Any:
    weights_of = {"kind": "transformers", "folder": str(folder)}
    return qwen_vl_training.load(card, settings_of(card, **settings), weights_of, "cpu")


def test_a_folder_is_loaded_and_trained(folder: Path) -> None:
    pipe = loaded(folder, precision="bf16")
    stored = load_file(folder / "model.safetensors")
    found = dict(pipe.model.named_parameters())
    name = next(name for name in stored if name.endswith("layers.1.mlp.up_proj.weight"))
    key = next(key for key in found if key.endswith("language_model.layers.1.mlp.up_proj.weight"))
    torch.testing.assert_close(found[key], stored[name].bfloat16())
    assert not any(value.requires_grad for value in pipe.model.parameters())
    assert run(pipe, settings={"precision": "bf16"})


def test_a_model_with_more_words_starts_from_its_base(folder: Path) -> None:
    config = {**CARD.configs["model"], "vocab_size": 600}
    from dataclasses import replace

    pipe = loaded(folder, replace(CARD, configs={"model": config}))
    assert pipe.model.lm_head.weight.shape[0] == 600
    assert pipe.model.lm_head.weight is pipe.model.get_input_embeddings().weight


def _without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _another_model(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["text_config"]["num_hidden_layers"] = 7
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def _a_missing_tensor(folder: Path) -> None:
    stored = load_file(folder / "model.safetensors")
    stored.pop(next(name for name in stored if "up_proj" in name))
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})


def _damaged(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"no tensors")


@pytest.mark.parametrize(
    ("spoil", "error", "told"),
    [
        (_without_config, MissingWeights, "config.json"),
        (_without_weights, MissingWeights, "safetensors"),
        (_another_model, BadInput, "num_hidden_layers is 7 instead of 2"),
        (_a_missing_tensor, BadInput, "up_proj"),
        (_damaged, BadInput, "cannot be read"),
    ],
)
def test_folders_that_are_wrong_say_why(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], None], error: Any, told: str
) -> None:
    import shutil

    copied = tmp_path / "copy"
    shutil.copytree(folder, copied)
    spoil(copied)
    with pytest.raises(error) as caught:
        loaded(copied)
    assert told in caught.value.message.en and caught.value.field == "model"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights):
        loaded(tmp_path / "nowhere")
