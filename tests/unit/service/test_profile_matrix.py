"""Matrices as text: the guide's sections and our own keys become rows, or say what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from webui.core.errors import BadInput
from webui.service.profile import Row, read_matrix
from webui.service.profile.examples import EXAMPLES

GUIDE = """
name: "optimization_test_1"
description: "使用模型分块加载和注意力切片的优化配置"
model_config:
  load_strategy: "block"
  precision: "fp16"
  device: "cuda"
  offload: false
optimization:
  attention_slicing: true
  gradient_checkpointing: false
  batch_size: 1
  micro_batch_size: 1
  parallel_degree: 1
logging:
  profile_memory: true
  log_interval: 10
  trace_path: "traces/opt_test_1"
"""


def one(data: Any, kind: str = "cuda") -> Row:
    text = data if isinstance(data, str) else yaml.safe_dump(data)
    (row,) = read_matrix(text, "matrix.yaml", kind)
    return row


def test_the_guides_own_configuration() -> None:
    row = one(GUIDE)
    assert row.error is None and row.as_written
    assert (row.name, row.folder) == ("optimization_test_1", "opt_test_1")
    assert row.request["model"] == "wan2.1-t2v-1.3b" and row.request["prompt"]
    assert row.request["settings"] == {
        "precision": "fp16", "offload": "block", "text_encoder": "gpu"
    }  # fmt: skip
    assert (row.options.memory, row.options.log_interval, row.options.trace) == (True, 10, True)
    notes = [note.en for note in row.notes]
    for key in ("attention_slicing", "gradient_checkpointing", "micro_batch_size"):
        assert any(note.startswith(f"{key} has no effect: ") for note in notes)


@pytest.mark.parametrize(
    ("strategy", "offload", "becomes"),
    [
        ("full", False, "none"), ("full", None, "none"), ("block", False, "block"),
        ("block", True, "block"), ("full", True, "model"), (None, True, "model"),
        (None, "leaf", "leaf"), (None, None, None),
    ],
)  # fmt: skip
def test_how_weights_are_loaded(strategy: Any, offload: Any, becomes: Any) -> None:
    config = {"load_strategy": strategy, "offload": offload, "precision": "bf16"}
    row = one({"model_config": {key: value for key, value in config.items() if value is not None}})
    assert row.request["settings"].get("offload") == becomes


def test_training_takes_what_inference_cannot() -> None:
    row = one(
        {
            "model": "qwen2.5-vl-3b", "task": "train",
            "optimization": {"gradient_checkpointing": False, "batch_size": 8,
                             "micro_batch_size": 2},
        }
    )  # fmt: skip
    assert row.error is None and row.notes == ()
    assert row.request["settings"] == {"gradient_checkpointing": False}
    assert (row.request["batch"], row.request["gradient_accumulation"]) == (2, 4)


def test_our_own_requests_and_values_to_multiply() -> None:
    rows = read_matrix(
        "- {model: demo, frames: 5}\n"
        "- name: sizes\n  model: demo\n"
        "  matrix: {settings.precision: [fp32, bf16], frames: [5, 9]}\n",
        "m",
        "cpu",
    )
    assert [row.request.get("frames") for row in rows] == [5, 5, 9, 5, 9]
    assert [row.request.get("settings", {}).get("precision") for row in rows[1:]] == [
        "fp32", "fp32", "bf16", "bf16"
    ]  # fmt: skip
    assert len({row.folder for row in rows}) == 5 and not any(row.as_written for row in rows)


def test_rows_of_one_name_have_folders_of_their_own() -> None:
    rows = read_matrix("[{name: Ä/b}, {name: a b}, {name: a-b}]", "m", "cpu")
    assert [row.folder for row in rows] == ["b", "a-b", "a-b-2"]
    # The profile's own files are written beside the rows' folders.
    rows = read_matrix("[{name: Summary.json}, {name: matrix.yaml}, {name: report.md}]", "m", "cpu")
    assert [row.folder for row in rows] == ["summary.json-2", "matrix.yaml-2", "report.md-2"]


@pytest.mark.parametrize(
    ("row", "field", "says"),
    [
        ({"optimization": {"parallel_degree": 2}}, "optimization.parallel_degree", "one GPU"),
        ({"optimization": {"batch_size": 9}}, "batch_size", "batch_size cannot be 9"),
        ({"model_config": {"device": "tpu"}}, "model_config.device", "not a device"),
        ({"model_config": {"load_strategy": "blok"}}, "load_strategy", "not a load_strategy"),
        ({"model_config": {"offload": 3}}, "offload", "cannot be 3"),
        ({"model_config": {"precison": "fp16"}}, "precison", "no key"),
        ({"optimisation": {}}, "optimisation", "no key"),
        ({"model": "demmo"}, "model", "demmo"),
        ({"logging": {"trace_path": "/etc/cron.d"}}, "logging.trace_path", "points out"),
        ({"logging": {"trace_path": "a/../../b"}}, "logging.trace_path", "points out"),
        ({"logging": {"trace_path": "C:\\x"}}, "logging.trace_path", "points out"),
        ({"logging": {"log_interval": 0}}, "log_interval", "cannot be 0"),
        ({"logging": {"active": 500}}, "active", "cannot be 500"),
        ({"logging": {"trace_phase": "decoding"}}, "trace_phase", "not a trace_phase"),
        (
            {"model_config": {"precision": "fp16"}, "settings": {"precision": "bf16"}},
            "model_config.precision",
            "settings.precision says bf16",
        ),
    ],
)
def test_a_wrong_row_says_so_and_the_others_stay(row: Any, field: str, says: str) -> None:
    wrong, good = read_matrix(yaml.safe_dump([row, {"model": "demo"}]), "m", "cuda")
    assert wrong.error is not None and good.error is None
    assert wrong.error.field == field and says in wrong.error.message.en


def test_a_row_for_a_gpu_where_there_is_none() -> None:
    row = one(GUIDE, kind="cpu")
    assert row.error is not None and "no GPU" in row.error.message.en


def test_the_processor_of_a_machine_with_a_gpu() -> None:
    row = one({"model": "demo", "model_config": {"device": "cpu", "load_strategy": "block"}})
    assert row.request["card"] == "cpu"
    assert "load_strategy has no effect" in row.notes[0].en


@pytest.mark.parametrize(
    "text",
    ["", "[]", "a: [", "\tx: 1", "{model: demo, model: demo}", "model: demo\nmatrix: {frames: 3}",
     "matrix: {steps: [" + "1," * 100 + "1]}", "x" * 2**21,
     "a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"
     "d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]"],
)  # fmt: skip
def test_texts_that_are_no_matrix(text: str) -> None:
    with pytest.raises(BadInput):
        read_matrix(text, "matrix.yaml", "cpu")


def test_the_examples_are_ready_to_run() -> None:
    assert all(row.error is None for row in read_matrix(EXAMPLES["demo"], "demo", "cpu"))
    for text in EXAMPLES.values():
        assert all(row.error is None for row in read_matrix(text, "example", "cuda"))
