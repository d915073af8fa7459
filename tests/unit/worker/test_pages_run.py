"""Documents read by small models of the real classes in the worker: what they write becomes blocks
on the right places of the page."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.unit.pipelines.text_cards import tiny_qwen3, tiny_qwen25
from tests.unit.worker.test_svd_run import Recorded
from webui.core.settings import with_defaults
from webui.documents.kept import KeptPages
from webui.pipelines import qwen_vl
from webui.worker import runner
from webui.worker.device import Device

CARDS = {"v1": tiny_qwen25("logics-parsing-v1"), "v2": tiny_qwen3("logics-parsing-v2")}
WORD = (120, 300, 480, 360)
"""Where a word stands on a page of 900 x 1200."""
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|image_pad|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)


@pytest.fixture(params=CARDS)
def job(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch) -> tuple[Any, dict[str, Any]]:
    card = CARDS[request.param]
    return card, job_of(card, tmp_path, monkeypatch)


def job_of(
    card: Any, tmp_path: Path, monkeypatch: Any, marks: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A job over three pages, the second of which is no picture.

    Args:
        card: a small model, which gets random weights and a word for each letter.
        tmp_path: for the checkpoint, the pages and the run.
        monkeypatch: gives the worker the card.
        marks: words of its vocabulary that are no text.
    """
    settings = with_defaults({"precision": "fp32", "page_batch": 2}, card.settings)
    pipe = qwen_vl.build_random(card, settings, "cpu")
    folder = tmp_path / "checkpoint"
    pipe.model.generation_config.eos_token_id = 205
    pipe.model.save_pretrained(str(folder))
    letters = [chr(index) for index in range(256)]
    letters[200] = "<|image_pad|>"
    letters[210 : 210 + len(marks)] = marks
    made = Tokenizer(models.WordLevel({c: i for i, c in enumerate(letters)}, unk_token="\x00"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, additional_special_tokens=[letters[200], *marks]
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(str(folder))
    pages = tmp_path / "pages"
    pages.mkdir()
    for name in ("1.png", "3.png"):
        Image.new("RGB", (900, 1200), "white").save(pages / name)
    (pages / "2.png").write_bytes(b"no picture")
    monkeypatch.setattr(runner, "find_model", lambda *_: card)
    keys = {"model": card.name, "task": "parse", "input": str(pages), "new_tokens": 6}
    return {
        "id": "job",
        "request": keys | {"max_pixels": 30_000},
        "settings": settings,
        "weights": {"kind": "transformers", "folder": str(folder)},
        "limit_bytes": None,
        "output_dir": str(tmp_path / "run"),
        "preview": False,
    }


def answer_of(card: Any) -> str:
    """What the model would write: the word's place as its convention has it."""
    height, width = card.fed_size(1200, 900, 30_000)
    seen = (1000, 1000) if card.boxes == "thousandths" else (width, height)
    told = [
        round(place * side / size)
        for place, side, size in zip(WORD, seen * 2, (900, 1200) * 2, strict=True)
    ]
    return f'<p data-bbox="{",".join(map(str, told))}">word</p><script>x</script>'


def test_boxes_land_on_the_words_and_a_bad_page_does_not_stop_the_others(
    job, tmp_path, monkeypatch
) -> None:
    card, given = job
    running = import_module("webui.pipelines.qwen_vl.run")
    real_write, asked = running.write, []

    def forced(pipe: Any, inputs: Any, new_tokens: int, *more: Any) -> list[list[int]]:
        """The model runs; what it writes is replaced."""
        written = real_write(pipe, inputs, new_tokens, *more)
        asked.append(inputs["image_grid_thw"].tolist())
        forced_tokens = [ord(letter) for letter in answer_of(card)]
        return [forced_tokens for _ in written]

    monkeypatch.setattr(running, "write", forced)
    (tmp_path / "run").mkdir()
    channel = Recorded()
    assert runner.Runner(Device(), channel).run(given)  # type: ignore[arg-type]
    assert channel.events[-1][0] == "result", channel.events[-1]
    pages = list(KeptPages(tmp_path / "run").all())
    assert [page.error is not None for page in pages] == [False, True, False]
    assert [values["number"] for event, values in channel.events if event == "page"] == [2, 1, 3]
    height, width = card.fed_size(1200, 900, 30_000)
    unit = (1000, 1000) if card.boxes == "thousandths" else (width, height)
    patch = card.size_multiple // 2
    assert asked == [[[1, height // patch, width // patch]]] * 2
    for page in (pages[0], pages[2]):
        assert (page.width, page.height, page.cut_off) == (900, 1200, True)
        (block,) = page.blocks
        assert block.text == "word" and block.box is not None
        for found, place, size, side in zip(
            block.box, WORD, (900, 1200) * 2, unit * 2, strict=True
        ):
            assert abs(found - place) <= max(2, size / side)


def test_only_the_pages_that_are_left_are_read(job, tmp_path) -> None:
    _, given = job
    (tmp_path / "run").mkdir()
    channel = Recorded()
    assert runner.Runner(Device(), channel).run(given | {"pages": [3]})  # type: ignore[arg-type]
    assert [path.name for path in sorted((tmp_path / "run" / "pages").iterdir())] == [
        "3.jpg", "3.json",
    ]  # fmt: skip
    kept = json.loads((tmp_path / "run" / "pages" / "3.json").read_text())
    assert kept["document"] == "3.png" and kept["tokens"] > 0
