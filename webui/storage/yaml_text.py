"""Reads YAML that somebody wrote: bounded in every direction, and with the line of each key.

Every YAML text from outside comes through here. `yaml.safe_load` alone takes the last of two equal
keys silently, expands aliases without end, and reads whatever fits into memory.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from webui.core.errors import BadInput
from webui.core.fields import shown
from webui.core.text import EMPTY, Text
from webui.core.units import KIB, MIB

MAX_BYTES = 1 * MIB
"""A list of requests, or a matrix of the profiler."""
MAX_DOCUMENT_BYTES = 64 * KIB
"""A preset or the configuration: what people write and a page compares line by line."""
MAX_DEPTH = 16
"""A request has three levels, a list of them four."""
MAX_VALUES = 50_000
"""Keys and values together, each alias counted as all that it stands for."""

MAX_DIGITS = 20
"""Of an integer; no key takes nearly as many."""
MAX_PATH_CHARACTERS = 200
"""Keys below longer ones are no keys of ours; their lines are not noted."""


class BadYaml(BadInput):
    """A text that is no YAML, or more than we read.

    Args:
        line: where, from 1; 0 where it is not one place.
        message: what is wrong.
        hint: what to do.
        name: of the file, which the message begins with, and with the line; empty where the
            message is a sentence as it is.
    """

    def __init__(self, line: int, message: Text, hint: Text = EMPTY, name: str = "") -> None:
        super().__init__("", _at(name, line, message) if name else message, hint)
        self.line = line
        self.what = _sentence(message) if name else message
        """What is wrong, without the file and the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlText:
    """What a text holds."""

    data: Any
    lines: Mapping[str, int] = field(default_factory=dict)
    """Line of each key, from 1, by its path: `settings.offload`, `0.model` in a list."""

    def line_of(self, path: str) -> int:
        """The line of a key that an error names; 0 where the text has none such.

        Errors of nested mappings name the key alone: the first one of that name is taken.
        """
        if path in self.lines:
            return self.lines[path]
        ends = (line for key, line in self.lines.items() if path and key.endswith(f".{path}"))
        return next(ends, 0)


def read_yaml(text: str, name: str, limit_bytes: int = MAX_BYTES) -> YamlText:
    """The data of a text.

    Args:
        text: YAML of one document.
        name: of the file, for messages.
        limit_bytes: refuses longer ones unread.

    Raises:
        BadYaml: what is wrong, and in which line.
    """
    if len(text) > limit_bytes or len(text.encode("utf-8", "replace")) > limit_bytes:
        raise _too_long(name, limit_bytes)
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return YamlText(data=None)
        _count(node)
        lines: dict[str, int] = {}
        _note_lines(node, "", lines)
        return YamlText(data=loader.construct_document(node), lines=lines)
    except _Refused as refused:
        raise BadYaml(refused.line, refused.message, refused.hint, name) from None
    except yaml.YAMLError as error:
        raise _not_yaml(error, text, name) from None
    finally:
        if loader is not None:
            loader.dispose()


def replace_values(text: str, name: str, keys: Collection[str], shown_as: str) -> str:
    """The text with other values for some keys, wherever they are; all else stays as it is.

    Args:
        text: YAML of one document.
        name: of the file, for messages.
        keys: whose values are replaced, those that are there and not empty.
        shown_as: YAML of one line that is put there instead.

    Raises:
        BadYaml: what is wrong, and in which line.
    """
    read_yaml(text, name)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    finally:
        loader.dispose()
    shown_text, at = "", 0
    places = _places(node, keys) if node is not None else set()
    for start, end in sorted(places, key=lambda place: (place[0], -place[1])):
        written = text[start:end].rstrip()
        # Through an alias one value may be part of another.
        if start >= at and written:
            shown_text, at = shown_text + text[at:start] + shown_as, start + len(written)
    return shown_text + text[at:]


def _places(node: Node, keys: Collection[str]) -> set[tuple[int, int]]:
    """Where values of the keys begin and end; an alias is the place that it stands for."""
    found: set[tuple[int, int]] = set()
    for child in _children(node):
        found |= _places(child, keys)
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(key, ScalarNode) and key.value in keys:
                found.add((value.start_mark.index, value.end_mark.index))
    return found


def decode_yaml(data: bytes, name: str, limit_bytes: int = MAX_BYTES) -> str:
    """The text of a file's bytes.

    Raises:
        BadYaml: too long, or no UTF-8.
    """
    if len(data) > limit_bytes:
        raise _too_long(name, limit_bytes)
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadYaml(
            line,
            Text("this is not UTF-8 text", "不是 UTF-8 文本"),
            Text("Save the file as UTF-8.", "请把文件存为 UTF-8 编码。"),
            name,
        ) from None


def load_yaml(path: Path, name: str = "", limit_bytes: int = MAX_BYTES) -> str:
    """The text of a file, of which no more than the limit is read.

    Raises:
        BadYaml: too long, or no UTF-8.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return decode_yaml(file.read(limit_bytes + 1), name or path.name, limit_bytes)


class _Refused(Exception):
    """What YAML allows and we do not."""

    def __init__(self, node: Any, message: Text, hint: Text = EMPTY) -> None:
        super().__init__(message.en)
        self.line: int = node.start_mark.line + 1
        self.message = message
        self.hint = hint


class _Loader(yaml.SafeLoader):
    """Counts levels while it reads, and refuses a key that is there already."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise _Refused(event, *_TOO_DEEP)
        try:
            node: Node | None = super().compose_node(parent, index)
        finally:
            self._depth -= 1
        if isinstance(node, MappingNode):
            _refuse_twice(node)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        whole = node.tag == "tag:yaml.org,2002:int"
        try:
            value = super().construct_object(node, deep)
        except (ValueError, OverflowError, KeyError, AttributeError) as error:
            if whole and len(node.value) > MAX_DIGITS:
                raise _too_many_digits(node) from error
            # A date such as 2026-13-01, `!!bool maybe`, `!!timestamp soon`.
            message = Text(
                f"'{shown(node.value)}' is not a value that YAML knows",
                f"“{shown(node.value)}”不是有效的 YAML 值",
            )
            raise _Refused(node, message, _QUOTE) from error
        # Python writes no integer of thousands of digits, which a message might repeat.
        if whole and abs(value) >= 10**MAX_DIGITS:
            raise _too_many_digits(node)
        return value


def _too_many_digits(node: Node) -> _Refused:
    return _Refused(
        node,
        Text(
            f"the number '{shown(node.value)}' has more than {MAX_DIGITS} digits",
            f"数字“{shown(node.value)}”超过 {MAX_DIGITS} 位",
        ),
        _QUOTE,
    )


_QUOTE = Text("Put it in quotes to mean a text.", "若是文字，请加上引号。")
_TOO_DEEP = (
    Text(f"values are nested more than {MAX_DEPTH} levels deep", f"嵌套超过 {MAX_DEPTH} 层"),
    Text(
        "A request has keys, and settings below them: nothing is deeper.",
        "请求只有键和其下的 settings，没有更深的层级。",
    ),
)


def _refuse_twice(node: MappingNode) -> None:
    seen: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if not isinstance(key, ScalarNode):
            continue
        named = (key.tag, key.value)
        if named in seen:
            first = seen[named]
            raise _Refused(
                key,
                Text(
                    f"the key '{shown(key.value)}' is there already, in line {first}",
                    f"“{shown(key.value)}”这个键在第 {first} 行已经有了",
                ),
                Text("Keep one of the two.", "请只保留其中一个。"),
            )
        seen[named] = key.start_mark.line + 1


def _count(root: Node) -> None:
    """Refuses aliases that stand for too much, or for what they are part of.

    A node is reached first where it is written and later through aliases, so that the recursion is
    no deeper than what is written; `depths` tells how deep the aliases make it.
    """
    sizes: dict[int, int] = {}
    depths: dict[int, int] = {}
    opened: set[int] = set()

    def visit(node: Node) -> tuple[int, int]:
        key = id(node)
        if key in sizes:
            return sizes[key], depths[key]
        if key in opened:
            message = Text("an alias stands for what it is part of", "别名引用了包含它自身的内容")
            raise _Refused(node, message, _NO_ALIASES)
        opened.add(key)
        size, depth = 1, 0
        for child in _children(node):
            inside, below = visit(child)
            size, depth = size + inside, max(depth, below)
            if size > MAX_VALUES:
                message = Text(
                    f"this stands for more than {MAX_VALUES} values",
                    f"展开后超过 {MAX_VALUES} 个值",
                )
                raise _Refused(node, message, _NO_ALIASES)
        if depth >= MAX_DEPTH:
            raise _Refused(node, *_TOO_DEEP)
        opened.discard(key)
        sizes[key], depths[key] = size, depth + 1
        return size, depth + 1

    visit(root)


_NO_ALIASES = Text(
    "Write the values out instead of using aliases (*name).",
    "请直接写出各个值，不要使用别名（*名称）。",
)


def _children(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


def _note_lines(node: Node, path: str, lines: dict[str, int]) -> None:
    if len(path) > MAX_PATH_CHARACTERS:
        return
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(key, ScalarNode):
                named = f"{path}{key.value}"
                lines.setdefault(named, key.start_mark.line + 1)
                _note_lines(value, f"{named}.", lines)
    elif isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            lines.setdefault(f"{path}{index}", item.start_mark.line + 1)
            _note_lines(item, f"{path}{index}.", lines)


def _not_yaml(error: yaml.YAMLError, text: str, name: str) -> BadYaml:
    """One sentence for what the library says in several lines."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = str(getattr(error, "problem", "") or "")
    if mark is not None:
        line = mark.line + 1
    else:
        position = getattr(error, "position", 0)
        line = text.count("\n", 0, position) + 1 if isinstance(position, int) else 0
    lines = text.splitlines()
    # At the end of an indented line the mark may already stand behind it.
    written = lines[line - 1] if 0 < line <= len(lines) else ""
    if "\\t" in problem or "\t" in written[: len(written) - len(written.lstrip())]:
        message = Text("YAML takes no tab here", "YAML 不允许在此处使用制表符")
        return BadYaml(line, message, Text("Use spaces.", "请改用空格。"), name)
    if isinstance(error, yaml.reader.ReaderError):
        message = Text("there is a character that no text has", "含有文本中不允许的字符")
        hint = Text("Remove it, or type the line anew.", "请删去该字符，或重新输入这一行。")
        return BadYaml(line, message, hint, name)
    said = shown(problem.split(" for the tag")[0]) if problem else "?"
    message = Text(f"it is not YAML ({said})", f"不是有效的 YAML（{said}）")
    hint = Text(
        "Look for a missing colon, quote or bracket here or in the line above.",
        "请检查这一行或上一行是否缺少冒号、引号或括号。",
    )
    return BadYaml(line, message, hint, name)


def _too_long(name: str, limit_bytes: int) -> BadYaml:
    size = limit_bytes // KIB
    return BadYaml(
        0,
        Text(f"{name} is longer than {size} KiB.", f"{name} 超过 {size} KiB。"),
        Text("Nothing of it was read; use a shorter file.", "没有读取任何内容，请使用更短的文件。"),
    )


def _sentence(message: Text) -> Text:
    return Text(f"{message.en[:1].upper()}{message.en[1:]}.", f"{message.zh}。")


def _at(name: str, line: int, message: Text) -> Text:
    return Text(
        f"{name}, line {line}: {message.en}." if line else f"{name}: {message.en}.",
        f"{name} 第 {line} 行：{message.zh}。" if line else f"{name}：{message.zh}。",
    )
