"""The house rules: sizes of files, generated files, versions, package data, presets."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import webui
from tests.contract.project import ROOT, project, python_files
from tests.requirements import render
from webui.catalogue import find_model, load_models
from webui.core.parse import parse_request
from webui.service import Access, Studio

PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
CJK = re.compile(r"[\u4e00-\u9fff]")
MOST_LINES = 400
DATA = (".yaml", ".json", ".npz", ".css", ".js", ".svg", ".safetensors", ".typed", ".woff2", ".png")


def test_files_stay_small() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in (ROOT / "app.py", *python_files("webui", "tests"))
        if (count := len(path.read_text(encoding="utf-8").splitlines())) >= MOST_LINES
    }
    assert not long


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in python_files("webui", "tests")
        if not path.read_text(encoding="utf-8").startswith('"""')
    ]
    assert not silent


def test_requirements_are_those_of_pyproject() -> None:
    assert (ROOT / "requirements.txt").read_text(encoding="utf-8") == render(), (
        "run `python -m tests.requirements`"
    )


def test_the_changelog_has_this_version_first() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[?(\d+\.\d+\.\d+)\]?", text, re.MULTILINE)
    assert versions[0] == webui.__version__
    assert versions == sorted(versions, key=_parts, reverse=True)


def test_spaces_install_the_gradio_that_is_declared() -> None:
    front = (ROOT / "README.md").read_text(encoding="utf-8").split("---")[1]
    space = yaml.safe_load(front)
    lowest = next(line for line in project()["project"]["dependencies"] if line[:6] == "gradio")
    assert space["sdk"] == "gradio" and space["app_file"] == "app.py"
    assert _parts(space["sdk_version"]) >= _parts(re.findall(r">=([\d.]+)", lowest)[0])
    assert space["license"].lower() == project()["project"]["license"].lower()


def test_every_data_file_is_packaged() -> None:
    """A file that the wheel forgets is missed only by those who install it."""
    packaged: set[Path] = set()
    for package, patterns in project()["tool"]["setuptools"]["package-data"].items():
        folder = ROOT.joinpath(*package.split("."))
        for pattern in patterns:
            # setuptools' own globs: `**` at the end takes files at any depth.
            packaged.update(folder.glob(pattern + "/*" if pattern.endswith("**") else pattern))
    data = {path for path in (ROOT / "webui").rglob("*") if path.suffix in DATA}
    assert {str(path.relative_to(ROOT)) for path in data - packaged} == set()


def test_every_folder_of_code_is_a_package() -> None:
    folders = {path.parent for path in python_files("webui")}
    assert [folder.name for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return Studio(tmp_path_factory.mktemp("home"), access=Access(loopback=True))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_load_and_have_a_plan_that_fits(studio: Studio, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    title = text.splitlines()[0]
    assert title.startswith("# ") and title.count(" | ") == 1
    assert CJK.search(title.split(" | ")[1]) and not CJK.search(title.split(" | ")[0])
    plan = studio.plan(parse_request(yaml.safe_load(text), find_model))
    assert plan.fits, plan.reasons


def test_models_are_described_in_both_languages() -> None:
    for card in load_models().values():
        for text in (card.about, *getattr(card, "examples", ())):
            assert CJK.search(text.zh) and not CJK.search(text.en), f"{card.name}: {text.en}"


def test_the_package_can_be_asked_for_its_version() -> None:
    code = "import webui; print(webui.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == webui.__version__


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
