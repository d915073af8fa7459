"""What the README and the guides promise exists: commands, options, files, requests, packages."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tests import figures
from tests.contract.project import ROOT, page_id, pages, project, python_files
from webui.catalogue import find_model, load_models
from webui.core.parse import parse_request
from webui.demo import vocabulary
from webui.hardware import load_cards
from webui.storage import load_config

READMES = [first for first, *_ in pages().values()]
GUIDES = [guide for _, *guides in pages().values() for guide in guides]
PAGES = [*READMES, *GUIDES, ROOT / "CONTRIBUTING.md"]
SOURCES = {
    "app.py": ROOT / "webui/ui/launch.py",
    "webui": ROOT / "webui/commands",
    "webui.demo": ROOT / "webui/demo/__main__.py",
    "webui.demo.upscaler": ROOT / "webui/demo/upscaler/__main__.py",
    "webui.tracing": ROOT / "webui/tracing/__main__.py",
    "tests.figures": ROOT / "tests/figures.py",
    "tests.dashboard_figures": ROOT / "tests/dashboard_figures.py",
}
"""Where the options of a command are declared."""
SHELLS = ("bash", "powershell", "sh")
PYTHON = re.compile(r"^(\.venv[/\\](bin|Scripts)[/\\])?(python3?|py)$")


def _blocks(path: Path, *languages: str) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language in languages:
            yield block


def _commands(path: Path) -> Iterator[list[str]]:
    """Each command of the shell blocks and of `inline code`, as words."""
    lines = [line for block in _blocks(path, *SHELLS) for line in block.splitlines()]
    prose = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    lines += [
        code
        for code in re.findall(r"`([^`\n]+)`", prose)
        if re.match(r"(\.venv\S+|python|pip|make) ", code)
    ]
    for line in lines:
        for command in re.split(r"&&|;", line.split("  #")[0]):
            words = shlex.split(command.replace("\\", "/"))
            while words and re.fullmatch(r"[A-Z_]+=\S+", words[0]):
                words = words[1:]
            if words:
                yield words


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_exists(page: Path) -> None:
    commands = list(_commands(page))
    assert page in GUIDES or len(commands) > 3
    for words in commands:
        if words[0] == "make":
            assert re.search(rf"^([\w ]+ )?{words[1]}\b.*:", _read("Makefile"), re.MULTILINE)
        elif words[0] == "pip":
            _check_pip(words[1:])
        else:
            assert PYTHON.match(words[0]), words
            _check_python(words[1:])


def _check_python(words: list[str]) -> None:
    if words[0] != "-m":
        assert (ROOT / words[0]).is_file(), words
        _check_options(words[0], words[1:])
        return
    module, rest = words[1], words[2:]
    if module == "pip":
        _check_pip(rest)
    elif module != "venv":
        assert find_spec(module) is not None, words
        _check_options(module, rest)


def _check_pip(words: list[str]) -> None:
    assert words[:2] == ["install", "-e"]
    extra = re.fullmatch(r"\.(?:\[(\w+)\])?", words[2])
    assert extra, words
    extras = project()["project"]["optional-dependencies"]
    assert extra[1] is None or extra[1] in extras, words


def _check_options(command: str, words: list[str]) -> None:
    """Options are declared, subcommands too, and files that are named are there."""
    source = SOURCES.get(command)
    for index, word in enumerate(words):
        if source is None or "NAME" in word:
            continue
        is_command = index == 0 and command in ("webui", "webui.demo")
        if word.startswith("--") or is_command:
            files = source.glob("*.py") if source.is_dir() else [source]
            assert any(f'"{word}"' in file.read_text(encoding="utf-8") for file in files), word
        elif word.startswith(("presets/", "tests/")):
            assert (ROOT / word).is_file(), word


@pytest.mark.parametrize("page", READMES, ids=page_id)
def test_install_and_test_are_one_command_each_on_every_system(page: Path) -> None:
    first_screen = page.read_text(encoding="utf-8").split("\n---\n\n##")[0]
    for block in ("```bash\npython3 -m venv", "```powershell\npy -m venv"):
        assert first_screen.count(block) == 2
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8")
    for line in ('-m pip install --quiet -e ".[dev]"', "-m tests"):
        assert line in ci
    assert "-m tests\n" in _read("Makefile")


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(#[\w-]+)?\)", text):
        if target.startswith(("http://", "https://")):
            continue
        file = page.parent / target if target else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {f"#{heading.lower().replace(' ', '-')}" for heading in headings}
    for name in re.findall(r"`((?:webui|tests|presets)/[\w./]+)`", text):
        if "FAMILY" not in name and "receipts" not in name:
            assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_yaml_is_what_the_program_reads(page: Path, tmp_path: Path) -> None:
    for block in _blocks(page, "yaml"):
        if block.startswith("# studio.yaml"):
            (tmp_path / "studio.yaml").write_text(block, encoding="utf-8")
            load_config(tmp_path, model_names=load_models())
        else:
            assert parse_request(yaml.safe_load(block), find_model).settings


def test_the_python_example_names_our_endpoints() -> None:
    source = _read("webui/ui/api.py")
    offered = set(re.findall(r'\("(\w+)", endpoints\.', source))
    described = [page for page in GUIDES if page.name == "scripts.md"]
    blocks = [each for page in described for each in _blocks(page, "python")]
    assert len(described) == 2 and len(blocks) == 4
    for block in blocks:
        called = [
            keyword.value.value
            for node in ast.walk(ast.parse(block))
            if isinstance(node, ast.Call)
            for keyword in node.keywords
            if keyword.arg == "api_name" and isinstance(keyword.value, ast.Constant)
        ]
        assert called and {str(name).lstrip("/") for name in called} <= offered
    for page in described:
        text = page.read_text(encoding="utf-8")
        listed = re.search(r"^(?:Endpoints: |端点：)(.*?)[.。]", text, re.MULTILINE)
        assert listed and set(re.findall(r"`/(\w+)`", listed[1])) == offered


@pytest.mark.parametrize("page", [p for p in GUIDES if p.name == "models.md"], ids=page_id)
def test_the_vocabulary_is_the_demos(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    shown = text.split("<!-- vocabulary -->")[1].split("<!-- /vocabulary -->")[0]
    lists = {
        "Colours": vocabulary.COLOURS,
        "Shapes": vocabulary.SHAPES,
        "Motions": vocabulary.MOTIONS,
        "Backgrounds": vocabulary.BACKGROUNDS,
    }
    expected = "".join(
        f"- **{title}**: {', '.join(f'{w.english[0]} {w.chinese[0]}' for w in words)}\n"
        for title, words in lists.items()
    )
    assert shown.strip() == expected.strip()


@pytest.mark.parametrize("page", READMES, ids=page_id)
def test_the_architecture_is_the_trees(page: Path) -> None:
    (block,) = [text for text in _blocks(page, "text") if "webui/core/" in text]
    named = re.findall(r"^webui/(\w+)/", block, re.MULTILINE)
    tree = {path.parent.name for path in (ROOT / "webui").glob("*/__init__.py")}
    assert sorted(named) == sorted(tree)
    # From high to low, as the import contract has it.
    layers = project()["tool"]["importlinter"]["contracts"][0]["layers"]
    order = [name for layer in layers for name in re.findall(r"\w+", layer) if name in tree]
    assert named[: len(order)] == order


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_figure_is_measured_by_a_command(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    marks = [mark[2] for mark in figures.MARK.finditer(text)]
    assert set(marks) <= set(figures.NAMES)
    assert text.count("<!-- figure:") == len(marks)
    command = ""
    for line in text.splitlines():
        if line.startswith("|") and "<!-- figure:" in line:
            cell = line.strip("| ").split("|")[-1].strip()
            command = cell if cell.startswith("`python -m") else command
            assert command and (cell == command or cell in ("the same", "同上"))
    written = figures.write_figures(text, dict.fromkeys(figures.NAMES, "1 s"))
    assert written.count("-->1 s<!--") == len(marks)


def test_each_guide_is_there_in_both_languages() -> None:
    english, chinese = ([page.name for page in found[1:]] for found in pages().values())
    assert english == chinese
    for readme, guides in ((found[0], found[1:]) for found in pages().values()):
        linked = readme.read_text(encoding="utf-8")
        assert all(f"]({page_id(guide)})" in linked for guide in guides)


def test_the_number_of_cards_is_about_right() -> None:
    assert abs(len(load_cards()) - 70) <= 10


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_environment_variables_are_read_somewhere(page: Path) -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in python_files("webui"))
    for name in set(re.findall(r"STUDIO_[A-Z]+", page.read_text(encoding="utf-8"))):
        assert f'"{name}"' in code, name
