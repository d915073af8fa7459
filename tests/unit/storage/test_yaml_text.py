"""YAML from people: whatever is in it, one sentence with its line, soon, and nothing else."""

from __future__ import annotations

import time

import pytest

from webui.storage.yaml_text import (
    MAX_BYTES,
    MAX_DOCUMENT_BYTES,
    BadYaml,
    decode_yaml,
    load_yaml,
    read_yaml,
    replace_values,
)

LAUGHS = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
)
"""A billion of them from 9 lines."""
CHAIN = "\n".join(["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 3000)])


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: [1, 2\nc: 3", 3, "not YAML"),
        ("a:\n\tb: 1", 2, "no tab"),
        ("model: demo\nframes: 1\nmodel: svd-xt", 3, "'model' is there already, in line 1"),
        ("settings:\n  offload: leaf\n  offload: none", 3, "in line 2"),
        (LAUGHS, 5, "more than 50000 values"),
        (CHAIN, 16, "levels deep"),
        ("b: 1\na: &x\n  b: *x", 2, "part of"),
        ("[" * 50_000, 1, "levels deep"),
        ("{a: " * 500, 1, "levels deep"),
        ("a: 1\nb: 2026-13-01", 2, "not a value"),
        ("a: " + "9" * 5000, 1, "more than 20 digits"),
        ("a: 1\nframes: 0x" + "f" * 5000, 2, "more than 20 digits"),
        ("a: -1" + "0" * 20, 1, "more than 20 digits"),
        ("a: !!bool maybe", 1, "not a value"),
        ("a: 1\nb: \x00", 2, "character"),
        ("a: \udfff", 1, "character"),
        ("a: 1\n---\nb: 2", 2, "another document"),
        ("? [1]\n: 2", 1, "not YAML"),
        ("!!python/object/apply:os.system ['true']", 1, "not YAML"),
        ("a: *nowhere", 1, "not YAML"),
    ],
)
def test_each_mistake_is_one_sentence_with_its_line(text, line, said):
    began = time.monotonic()
    with pytest.raises(BadYaml) as caught:
        read_yaml(text, "x.yaml")
    assert time.monotonic() - began < 5
    error = caught.value
    assert error.line == line and said in error.message.en
    assert (
        f"x.yaml, line {line}: " in error.message.en
        and f"x.yaml 第 {line} 行：" in error.message.zh
    )
    for sentence in (error.message.en, error.hint.en, error.message.zh):
        assert "\n" not in sentence and len(sentence) < 200


def test_what_is_too_long_is_refused_unread(tmp_path):
    text = "a: [" * (10 * 2**20 // 4)
    began = time.monotonic()
    for refused in (
        lambda: read_yaml(text, "x.yaml"),
        lambda: decode_yaml(text.encode(), "x.yaml"),
        lambda: read_yaml("字" * (MAX_DOCUMENT_BYTES // 2), "x.yaml", MAX_DOCUMENT_BYTES),
    ):
        with pytest.raises(BadYaml, match="longer than"):
            refused()
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(BadYaml, match="longer than 1024 KiB"):
        load_yaml(path)
    assert time.monotonic() - began < 1
    assert MAX_BYTES == 2**20


def test_bytes_that_are_no_text_name_their_line():
    with pytest.raises(BadYaml) as caught:
        decode_yaml(b"a: 1\nb: caf\xe9\n", "x.yaml")
    assert caught.value.line == 2 and "UTF-8" in caught.value.message.en
    assert decode_yaml(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", "x.yaml") == "a: 1\nb: 2\n"


def test_the_line_of_every_key_is_known():
    read = read_yaml(
        "# about\nmodel: demo\nsettings:\n  offload: leaf\n  text_encoder: cpu\n"
        "models:\n  wan2.1-t2v-1.3b: /a\nlist: [1,\n 2]\n",
        "x.yaml",
    )
    assert read.data["settings"] == {"offload": "leaf", "text_encoder": "cpu"}
    assert read.line_of("model") == 2 and read.line_of("settings.text_encoder") == 5
    assert read.line_of("models.wan2.1-t2v-1.3b") == 7 and read.line_of("list.1") == 9
    assert read.line_of("text_encoder") == 5, "errors of nested mappings name the key alone"
    assert read.line_of("steps") == 0 and read.line_of("") == 0


def test_what_is_fine_stays_what_safe_load_makes_of_it():
    assert read_yaml("", "x").data is None and read_yaml("# only words\n", "x").data is None
    assert read_yaml("a: &v [1, 2]\nb: *v\n", "x").data == {"a": [1, 2], "b": [1, 2]}
    assert read_yaml("- {a: 1e-3, b: yes}\n- .nan\n", "x").data[0] == {"a": "1e-3", "b": True}


def test_long_keys_over_many_values_stay_small():
    """Their paths would take the square of the text's length."""
    text = f"? {'k' * 30_000}\n: [{'1,' * 16_000}]"
    read = read_yaml(text, "x.yaml", MAX_DOCUMENT_BYTES)
    assert sum(map(len, read.lines)) < 100_000


def test_values_of_some_keys_are_replaced_and_nothing_else():
    text = """# mine
prompt: input  # a word
input: /secret/a.pdf # where
"data": {
  input: '/secret/b', x: 1}
list: [{input: "/secret/c"}]
more:
  input: |
    /secret/d
    /secret/e
  data:
twice: {data: {input: /secret/f}}
"""
    found = replace_values(text, "x", ["input", "data"], '"***"')
    assert (
        found
        == """# mine
prompt: input  # a word
input: "***" # where
"data": "***"
list: [{input: "***"}]
more:
  input: "***"
  data:
twice: {data: "***"}
"""
    )
    with pytest.raises(BadYaml):
        replace_values("input: /secret\ninput: /secret", "x", ["input"], "-")
