"""The import rules of the design, and that the app's process stays free of torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.contract.project import ROOT, declared_names, python_files

# Used by the libraries above them, never by us.
INDIRECT = {"ftfy", "protobuf", "sentencepiece"}


def test_the_import_contracts_hold() -> None:
    code = "from importlinter.cli import lint_imports_command as run; run()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_app_py_only_starts_the_pages() -> None:
    imported = {name for name in _imports(ROOT / "app.py") if not _is_standard(name)}
    assert all(name.startswith("webui.ui.") for name in imported)


@pytest.mark.parametrize(
    "build",
    [
        "import app; app.studio.close()",
        "import webui.__main__; webui.__main__.main(['plan', '-'])",
    ],
    ids=["app", "command-line"],
)
def test_the_app_is_built_without_torch(tmp_path: Path, build: str) -> None:
    heavy = "{'torch', 'diffusers', 'transformers', 'accelerate'}"
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{build}\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, input="model: demo\n", capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_is_imported_is_declared_and_the_other_way_round() -> None:
    distributions = packages_distributions()
    imported = {name.split(".")[0] for path in python_files("webui") for name in _imports(path)}
    third_party = {name for name in imported if not _is_standard(name) and name != "webui"}
    used = {_plain(distributions.get(name, [name])[0]) for name in third_party}
    declared = declared_names()
    assert used <= declared, f"imported and not declared: {sorted(used - declared)}"
    assert declared - INDIRECT <= used, f"declared and never imported: {sorted(declared - used)}"


def test_no_module_is_a_drawer_for_everything() -> None:
    for path in python_files("webui"):
        assert path.stem not in ("utils", "util", "helpers", "misc", "common_utils")


def _imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _is_standard(name: str) -> bool:
    return name.split(".")[0] in sys.stdlib_module_names


def _plain(distribution: str) -> str:
    return distribution.lower().replace("_", "-")
