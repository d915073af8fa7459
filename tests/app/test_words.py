"""Every sentence of the pages exists in both languages, with the same values to fill in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from types import ModuleType

import pytest

from webui.core.text import Text
from webui.ui.words import common, compare, generate, history

SAME_IN_BOTH = {"VRAM Studio", "Flow shift", "UniPC", "DPM++", "API"}
CJK = re.compile(r"[\u4e00-\u9fff]")


def sentences() -> Iterator[tuple[str, Text]]:
    for module in (common, compare, generate, history):
        yield from _of_module(module)


def _of_module(module: ModuleType) -> Iterator[tuple[str, Text]]:
    for name, value in vars(module).items():
        if isinstance(value, Text):
            yield f"{module.__name__}.{name}", value
        elif isinstance(value, dict) and name.isupper():
            for key, text in value.items():
                yield f"{module.__name__}.{name}[{key}]", text


@pytest.mark.parametrize(("name", "text"), list(sentences()))
def test_both_languages(name: str, text: Text) -> None:
    assert text.en and text.zh
    fields = [
        sorted(field for _, field, _, _ in Formatter().parse(sentence) if field)
        for sentence in (text.en, text.zh)
    ]
    assert fields[0] == fields[1]
    if text.en in SAME_IN_BOTH or name.endswith("_LANGUAGE") or text.en == "{used} of {limit}":
        return
    assert CJK.search(text.zh), name
    assert not CJK.search(text.en), name


def test_every_sentence_is_used() -> None:
    """A sentence that no code shows would be translated for nothing."""
    folder = Path(common.__file__).parents[1]
    code = "\n".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    unused = [
        name for name, _ in sentences()
        if not re.search(rf"\b{name.rsplit('.', 1)[1].split('[')[0]}\b", code)
    ]  # fmt: skip
    assert not unused
