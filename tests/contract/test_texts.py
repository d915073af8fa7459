"""Every sentence that a user sees is written in English and in Chinese."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.contract.project import ROOT, python_files

CJK = re.compile(r"[\u4e00-\u9fff]")
# Names and terms that Chinese readers use as they are.
SAME_IN_BOTH = {
    "VRAM Studio", "Flow shift", "UniPC", "DPM++", "VAE channels-last", "expandable segments",
    "API", "{used} of {limit}",
}  # fmt: skip


def test_every_text_has_both_languages() -> None:
    wrong = []
    count = 0
    for path in python_files("webui"):
        for line, english, chinese in _texts(path):
            count += 1
            where = f"{path.relative_to(ROOT)}:{line}"
            if english.strip() in SAME_IN_BOTH:
                continue
            if CJK.search(english):
                # The name of the other language, in that language.
                if not re.search("[A-Za-z]", chinese):
                    wrong.append(f"{where}: Chinese stands where English belongs")
                continue
            if _words(english) and not chinese.strip():
                wrong.append(f"{where}: no Chinese for '{english}'")
            elif len(_words(english)) > 0 and not CJK.search(chinese):
                wrong.append(f"{where}: not translated: '{english}' / '{chinese}'")
    assert not wrong, "\n".join(wrong)
    assert count > 100


def test_different_sentences_are_not_translated_alike() -> None:
    """A Chinese sentence copied to the wrong place shows as one Chinese for two English."""
    english_of: dict[str, set[str]] = {}
    for path in python_files("webui"):
        for _, english, chinese in _texts(path):
            if len(chinese) >= 12 and CJK.search(chinese):
                english_of.setdefault(chinese, set()).add(english)
    assert {chinese: found for chinese, found in english_of.items() if len(found) > 1} == {}


def _texts(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line and the literal parts of each `Text(en, zh)` whose sentences are written there."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id == "Text" and len(node.args) == 2:
            english, chinese = (_literal(argument) for argument in node.args)
            if english or chinese:
                yield node.lineno, english, chinese


def _literal(node: ast.expr) -> str:
    """The written parts of an expression, joined; what is filled in is left out."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_literal(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return _literal(node.left) + _literal(node.right)
    if isinstance(node, ast.IfExp):
        return _literal(node.body) + _literal(node.orelse)
    return ""


def _words(english: str) -> list[str]:
    return re.findall(r"[A-Za-z]{2,}", english)
