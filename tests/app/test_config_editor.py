"""The tab for presets and settings on a running app: what the owner can do, and visitors cannot."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client

from tests.app.events import Refused, Visitor
from tests.app.running import RunningStudio

PRESET = "# A star | 一颗星\nmodel: demo\nprompt: a red star\nframes: 5\n"
DOCUMENT = """# Pages | 文档
task: parse
model: logics-parsing-v2
card: rtx-4090
"""


def presets_of(running: RunningStudio, **texts: str) -> Path:
    folder = running.home / "presets"
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def open_tab(running: RunningStudio, session: str, cookie: str = "") -> Visitor:
    return Visitor(running, session, cookie)


def choose(visitor: Visitor, name: str) -> dict[str, Any]:
    visitor.values["config-document"] = name
    return visitor.trigger("config-document", "input")


def write(visitor: Visitor, text: str) -> dict[str, Any]:
    visitor.values["config-editor"] = text
    return visitor.trigger("config-editor", "input")


def press(visitor: Visitor, action: str, area: str = "config-actions", **data: str) -> Any:
    return visitor.trigger(area, "click", action=action, **data)


def test_a_preset_is_checked_saved_and_shown_before_it_is_used(studio: RunningStudio) -> None:
    folder = presets_of(studio, star=PRESET)
    owner = open_tab(studio, "owner-1")
    shown = choose(owner, "star")
    # gradio's editor drops the newline at the end; saving puts it back.
    assert shown["config-editor"]["value"] == PRESET.strip()
    assert shown["config-editor"]["interactive"] and "As it is saved" in shown["config-status"]
    assert "As it is saved" in write(owner, PRESET.strip())["config-status"]
    assert "vs-summary" in shown["config-panel"], "the estimate stands there before it is used"
    assert "data-confirm" not in shown["config-actions"].split("duplicate")[0], "nothing to lose"
    shown = write(owner, PRESET.replace("frames: 5", "framez: 5\nsettings: {offload: lief}"))
    problems = shown["config-problems"]
    assert "data-confirm" in shown["config-actions"].split("duplicate")[0]
    assert 'data-line="4"' in problems and "Did you mean frames?" in problems
    assert 'data-line="5"' in problems and "leaf" in problems and "nth-child(4)" in problems
    assert "<del>-frames: 5</del>" in shown["config-diff"]
    refused = press(owner, "save")
    assert "framez" in refused["config-message"] and "config-editor" not in refused
    assert (folder / "star.yaml").read_text() == PRESET, "a wrong text is not saved"
    shown = write(owner, PRESET.replace("5", "9"))
    assert "No mistakes" in shown["config-problems"]
    shown = press(owner, "save")
    assert "Saved." in shown["config-message"] and not shown["config-diff"]
    assert "frames: 9" in (folder / "star.yaml").read_text()
    [(label, version)] = shown["config-versions"]["choices"]
    assert "UTC" in label
    owner.values["config-versions"] = version
    shown = press(owner, "restore", "config-version-actions")
    assert (
        shown["config-editor"] == PRESET.strip()
        and "frames: 9" in (folder / "star.yaml").read_text()
    )
    owner.values["config-card"] = "rtx-3060-12gb"
    assert "RTX 3060" in owner.trigger("config-card", "input")["config-panel"]
    used = press(owner, "use")
    assert (
        used["generate-frames"]["value"] == 5 and used["generate-card"]["value"] == "rtx-3060-12gb"
    )
    assert used["generate-prompt"]["value"] == "a red star"
    assert used["studio-tabs"]["selected"] == "generate"


def test_markup_in_a_preset_is_shown_as_text(studio: RunningStudio) -> None:
    presets_of(studio, markup=PRESET)
    owner = open_tab(studio, "owner-2")
    choose(owner, "markup")
    shown = write(owner, PRESET + "'<img src=x onerror=alert(1)>': 1\n'</style><script>': 2\n")
    for part in ("config-problems", "config-diff"):
        assert "&lt;img src=x" in shown[part] and "<img" not in shown[part]
        assert "<script>" not in shown[part]


def test_two_editors_at_once_lose_nothing(studio: RunningStudio) -> None:
    folder = presets_of(studio, shared=PRESET)
    first, second = open_tab(studio, "owner-3"), open_tab(studio, "owner-4")
    for each in (first, second):
        choose(each, "shared")
    write(first, PRESET.replace("5", "9"))
    press(first, "save")
    write(second, PRESET.replace("5", "17"))
    shown = press(second, "save")
    assert "changed by somebody else" in shown["config-message"]
    assert "config-editor" not in shown and "frames: 9" in (folder / "shared.yaml").read_text()
    assert "<del>-frames: 9</del>" in shown["config-message"]
    second.values["config-name"] = "mine"
    press(second, "save-as", "config-name-actions")
    assert "frames: 17" in (folder / "mine.yaml").read_text()
    # Or knowingly over the other's, which stays in the history.
    write(first, PRESET.replace("5", "33"))
    first.values["config-name"] = "mine"
    shown = press(first, "save-as", "config-name-actions")
    assert "there already" in shown["config-message"]
    seen = shown["config-message"].split('data-seen="')[1].split('"')[0]
    shown = press(first, "overwrite", "config-message", seen=seen, name="mine")
    assert "frames: 33" in (folder / "mine.yaml").read_text()
    assert len(shown["config-versions"]["choices"]) == 1
    shown = press(first, "delete")
    assert not (folder / "mine.yaml").exists() and "Deleted" in shown["config-message"]
    assert "frames: 33" in shown["config-editor"]["value"], "its text is still there"


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a/b", "A", "con", ""])
def test_a_name_is_never_a_path(studio: RunningStudio, name: str) -> None:
    presets_of(studio, star=PRESET)
    before = sorted(str(path) for path in studio.home.rglob("*.yaml"))
    owner = open_tab(studio, "owner-5")
    choose(owner, "star")
    owner.values["config-name"] = name
    shown = press(owner, "save-as", "config-name-actions")
    assert "vs-alert" in shown["config-message"] and "config-editor" not in shown
    assert sorted(str(path) for path in studio.home.rglob("*.yaml")) == before
    assert "vs-alert" in choose(owner, name)["config-message"]


def test_unsaved_text_waits_while_another_preset_is_looked_at(studio: RunningStudio) -> None:
    presets_of(studio, star=PRESET, pages=DOCUMENT)
    owner = open_tab(studio, "owner-6")
    choose(owner, "star")
    write(owner, PRESET + "steps: 7\n")
    shown = choose(owner, "pages")
    assert shown["config-editor"]["value"] == DOCUMENT.strip()
    used = press(owner, "use")
    assert used["studio-tabs"]["selected"] == "documents"
    assert used["parse-model"]["value"] == "logics-parsing-v2"
    shown = choose(owner, "star")
    assert shown["config-editor"]["value"] == PRESET + "steps: 7"
    assert "unsaved changes are back" in shown["config-message"]
    assert press(owner, "revert")["config-editor"]["value"] == PRESET.strip()


def test_files_are_imported_within_bounds_and_not_kept(studio: RunningStudio) -> None:
    presets_of(studio, star=PRESET)
    owner = open_tab(studio, "owner-8")
    choose(owner, "star")
    write(owner, PRESET + "steps: 7\n")
    for content, said in (
        (b"a: " + b"x" * 10 * 2**20, "longer than 64 KiB"),
        (b"a: 1\nb: caf\xe9", "line 2: this is not UTF-8"),
    ):
        shown = owner.upload("config-import", content)
        assert said in shown["config-message"] and "config-editor" not in shown
    shown = owner.upload("config-import", b"model: demo\nmodel: demo\n", "../../x.yaml")
    assert shown["config-editor"].strip() == "model: demo\nmodel: demo"
    assert "is there already, in line 1" in shown["config-problems"]
    left = [path for path in (studio.home / "cache").rglob("*.yaml") if path.is_file()]
    assert not left, "the uploaded file is removed"
    shown = press(owner, "back", "config-message")
    assert shown["config-editor"].endswith("steps: 7"), "what was there unsaved comes back"
    # A path in place of an upload is neither read nor removed.
    owner.values["config-import"] = {
        "path": str(studio.log), "meta": {"_type": "gradio.FileData"},
    }  # fmt: skip
    with pytest.raises(Refused):
        owner.trigger("config-import", "upload")
    assert studio.log.is_file()


def test_settings_act_at_once(studio: RunningStudio) -> None:
    owner = open_tab(studio, "owner-7")
    shown = choose(owner, "@settings")
    assert "force_fp16_threshold: 0.0" in shown["config-editor"]["value"]
    shown = write(owner, "memory:\n  warn_threshold: 7\n")
    assert 'data-line="2"' in shown["config-problems"] and "0.1 to 1" in shown["config-problems"]
    client = Client(studio.address, verbose=False)
    write(owner, "memory: {auto_optimize: false}\nlanguage: zh\n")
    shown = press(owner, "save")
    try:
        assert "in effect" in shown["config-message"]
        reasons = client.predict(model="demo", api_name="/plan")["reasons"]
        assert any("auto_optimize is off" in reason for reason in reasons)
        with urllib.request.urlopen(studio.address) as page:
            assert b'document.documentElement.lang="zh-CN"' in page.read()
    finally:
        write(owner, "{}\n")
        press(owner, "save")
    reasons = client.predict(model="demo", api_name="/plan")["reasons"]
    assert not any("auto_optimize" in reason for reason in reasons)
    client.close()


def test_visitors_read_and_use_and_change_nothing(public_studio: RunningStudio) -> None:
    folder = presets_of(public_studio, star=PRESET)
    (public_studio.home / "studio.yaml").write_text("models: {demo: /secret/place}\n")
    cookie = "studio_visitor=" + "a" * 32
    guest = open_tab(public_studio, "guest", cookie)
    shown = choose(guest, "star")
    assert shown["config-editor"]["interactive"] is False and "vs-summary" in shown["config-panel"]
    assert [name for _, name in shown["config-document"]["choices"]] == ["star"]
    assert "Only the owner" in shown["config-status"]
    assert not shown["config-versions"]["choices"]
    assert 'data-action="save"' not in shown["config-actions"]
    shown = choose(guest, "@settings")
    assert "Only the owner" in shown["config-message"] and "secret" not in str(shown)
    presets_of(public_studio, pages=DOCUMENT + "input: /secret/a.pdf # mine\npages: 1-3\n")
    shown = choose(guest, "pages")
    assert 'input: "***" # mine\npages: 1-3' in shown["config-editor"]["value"]
    assert "secret" not in str(shown)
    (folder / "pages.yaml").unlink()
    choose(guest, "star")
    write(guest, PRESET.replace("5", "9"))
    guest.values |= {"config-name": "new", "config-versions": "20261127-190122-123456-1a2b3c4d"}
    for action, area in (
        ("save", "config-actions"), ("save-as", "config-name-actions"),
        ("duplicate", "config-actions"), ("delete", "config-actions"),
        ("restore", "config-version-actions"),
    ):  # fmt: skip
        assert "Only the owner" in press(guest, action, area)["config-message"], action
    shown = press(guest, "overwrite", "config-message", name="@settings", seen="")
    assert "Only the owner" in shown["config-message"]
    shown = guest.upload("config-import", b"model: demo")
    assert "Only the owner" in shown["config-message"] and "config-editor" not in shown
    assert (folder / "star.yaml").read_text() == PRESET
    assert [path.name for path in folder.glob("*.yaml")] == ["star.yaml"]
    assert "/secret" in (public_studio.home / "studio.yaml").read_text()
    assert press(guest, "use")["generate-frames"]["value"] == 9
    (public_studio.home / "studio.yaml").unlink()
