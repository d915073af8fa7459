"""Presets and settings as documents: what is wrong where, who may do what, what acts at once."""

from __future__ import annotations

import threading
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest

from webui.core.errors import BadInput, NotAllowed, NotFound
from webui.service import Access, Studio
from webui.service.access import LOCAL
from webui.service.editing import SETTINGS
from webui.storage import Limits, MemoryPolicy, StudioConfig
from webui.storage.config import parse_config
from webui.storage.config_text import DEFAULT_TEXT
from webui.storage.yaml_text import read_yaml

WAN = """# Fox | 狐狸
model: wan2.1-t2v-1.3b
frames: 80
stepz: 4
card: rtx-9999
settings:
  offload: lief
  vae_tile: 70000
  nothing: 1
"""


def test_every_mistake_has_its_line_and_the_nearest_name(local: Studio) -> None:
    found = local.editor.check("fox", WAN).problems
    said = {problem.field: (problem.line, problem.hint.en) for problem in found}
    assert said["stepz"][0] == 4 and "steps?" in said["stepz"][1]
    assert said["settings.offload"][0] == 7 and "leaf?" in said["settings.offload"][1]
    assert said["settings.vae_tile"][0] == 8 and "64 to 1024" in said["settings.vae_tile"][1]
    assert said["settings.nothing"][0] == 9 and said["frames"] == (3, "Use 77 or 81.")
    assert said["card"][0] == 5 and "rtx-" in said["card"][1]
    [only] = local.editor.check("fox", "model: wan2.1-t2v-1.3\nframes: 9\nheight: 480\n").problems
    assert only.line == 1 and "wan2.1-t2v-1.3b" in only.hint.en, "of another model, no more is said"
    bad = local.editor.check(SETTINGS, "limits:\n  max_qeued: 1\nmemory: {warn_threshold: 9}\n")
    assert [(each.line, each.field) for each in bad.problems] == [
        (2, "max_qeued"), (3, "memory.warn_threshold"),
    ]  # fmt: skip


def test_the_editor_names_a_line_once_and_what_is_refused_names_it_too(local: Studio) -> None:
    text = "model: demo\nmodel: demo\n"
    [problem] = local.editor.check("fox", text).problems
    assert (
        problem.line == 2 and problem.message.en == "The key 'model' is there already, in line 1."
    )
    with pytest.raises(BadInput, match=r"fox\.yaml, line 2: the key 'model' is there"):
        local.editor.save("fox", text, "", LOCAL)


def test_a_card_that_cannot_do_a_setting_is_a_mistake(local: Studio) -> None:
    text = "model: wan2.1-t2v-1.3b\ncard: gtx-1080\nsettings: {precision: bf16}\n"
    [problem] = local.editor.check("x", text).problems
    assert problem.line == 3 and "no bf16" in problem.message.en


def test_the_settings_that_are_shown_first_are_the_defaults(tmp_path: Path) -> None:
    data = read_yaml(DEFAULT_TEXT, "studio.yaml").data
    assert parse_config(data, tmp_path / "studio.yaml") == StudioConfig()
    for kind, part in ((MemoryPolicy, data["memory"]), (Limits, data["limits"])):
        assert list(part) == [item.name for item in fields(kind)]
    assert {*data, "given_models"} == {item.name for item in fields(StudioConfig)}


def test_the_settings_saved_last_are_those_that_act(
    local: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, take, second = [], local.editor._apply, threading.Event()

    def slowly(config: StudioConfig) -> None:
        steps.append(config.limits.max_steps)
        if len(steps) == 1:
            second.wait(0.5)  # the first save is held up just before it acts
        take(config)
        second.set()

    monkeypatch.setattr(local.editor, "_apply", slowly)
    first = threading.Thread(
        target=local.editor.save, args=(SETTINGS, "limits: {max_steps: 3}\n", "", LOCAL)
    )
    first.start()
    while not steps:
        time.sleep(0.01)
    seen = local.editor.open(SETTINGS, LOCAL).seen
    local.editor.save(SETTINGS, "limits: {max_steps: 4}\n", seen, LOCAL)
    first.join()
    assert local.config.limits.max_steps == 4


def test_saved_settings_act_and_the_command_line_stays(local: Studio) -> None:
    local.config = replace(local.config, models={}).with_models({"demo": Path("/given")})
    opened = local.editor.open(SETTINGS, LOCAL)
    assert not opened.seen and opened.text == DEFAULT_TEXT
    text = "models: {demo: /file, svd-xt: /svd}\nlimits: {max_steps: 3}\n"
    saved = local.editor.save(SETTINGS, text, opened.seen, LOCAL)
    assert local.config.limits.max_steps == 3
    assert local.config.models == {"demo": Path("/given"), "svd-xt": Path("/svd").absolute()}
    with pytest.raises(BadInput, match="max_steps"):
        local.editor.save(SETTINGS, "limits: {max_steps: none}", saved.seen, LOCAL)
    assert local.config.limits.max_steps == 3
    local.editor.save(SETTINGS, "", saved.seen, LOCAL)
    assert local.config.limits == Limits() and local.config.models == {"demo": Path("/given")}
    with pytest.raises(BadInput):
        local.editor.delete(SETTINGS, "", LOCAL)


def test_presets_are_grouped_by_work_and_memory(local: Studio) -> None:
    texts = {
        "pages": "task: parse\nmodel: logics-parsing-v1\ncard: rtx-4090\n",
        "b-clip": "model: svd-xt\ncard: rtx-3060-12gb\n",
        "a-clip": "model: svd-xt\nvram_gib: 16\n",
        "here": "model: demo\n",
    }
    for name, text in texts.items():
        local.editor.save(name, text, "", LOCAL)
    (local.home / "presets" / "worse.yaml").write_text("model: [", encoding="utf-8")
    copy = local.editor.duplicate("here", LOCAL)
    assert copy.name == "here-2" and copy.text == texts["here"]
    local.editor.delete("here-2", copy.seen, LOCAL)
    listed = [(entry.group, entry.memory_gb, entry.name) for entry in local.editor.entries(LOCAL)]
    assert listed == [
        ("settings", None, SETTINGS), ("broken", None, "worse"), ("clips", None, "here"),
        ("clips", 12, "b-clip"), ("clips", 16, "a-clip"), ("documents", 24, "pages"),
        ("deleted", None, "here-2"),
    ]  # fmt: skip
    assert local.editor.open("here-2", LOCAL).text == texts["here"]
    assert local.editor.plan(texts["b-clip"], "rtx-4090").estimate.card == "rtx-4090"


def test_visitors_only_read(local: Studio, tmp_path: Path) -> None:
    local.editor.save("mine", "model: demo\n", "", LOCAL)
    seen = local.editor.open("mine", LOCAL).seen
    public = Studio(
        local.home, access=Access(loopback=False, owner_user="boss"), config=StudioConfig(),
        resume=False,
    )  # fmt: skip
    editor = public.editor
    assert [entry.name for entry in editor.entries("browser:1")] == ["mine"]
    opened = editor.open("mine", "browser:1")
    assert opened.text == "model: demo\n" and opened.versions == ()
    for refused in (
        lambda: editor.save("mine", "model: demo\n", seen, "browser:1"),
        lambda: editor.duplicate("mine", "user:other"),
        lambda: editor.delete("mine", seen, "browser:1"),
        lambda: editor.version("mine", "20261127-190122-123456-1a2b3c4d", "browser:1"),
        lambda: editor.open(SETTINGS, "browser:1"),
    ):
        with pytest.raises(NotAllowed):
            refused()
    with pytest.raises(NotFound):
        editor.open("other", "browser:1")
    editor.delete("mine", seen, "user:boss")
    with pytest.raises(NotFound):
        editor.version("mine", "20261127-190122-123456-1a2b3c4d", "user:boss")
    public.close()
