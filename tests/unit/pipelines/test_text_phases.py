"""Models that write text, on small real classes: phases, batches, cancels, folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.unit.pipelines.text_cards import (
    tiny_glm_ocr,
    tiny_language,
    tiny_paddleocr,
    tiny_qwen3,
    tiny_qwen25,
)
from webui.core.errors import BadInput, Cancelled, MissingWeights, RunFailed
from webui.core.model import ModelCard
from webui.core.parse import parse_request
from webui.core.request import Request
from webui.core.settings import Settings, with_defaults
from webui.documents.blocks import Block
from webui.pipelines import language, qwen_vl, text_model
from webui.pipelines.generating import write
from webui.pipelines.placement import Placement
from webui.pipelines.qwen_vl.pages import batch_inputs
from webui.pipelines.text_model import TextPipeline

NEW_TOKENS = 6
PAGE_CARDS = {
    "qwen2.5-vl": tiny_qwen25,
    "qwen3-vl": tiny_qwen3,
    "glm-ocr": tiny_glm_ocr,
    "paddleocr-vl": tiny_paddleocr,
}
LANGUAGE_MODELS = ("qwen3-4b", "glm-edge-1.5b", "chatglm3-6b")


class Told:
    """A report that keeps what it is told, and cancels when it is asked to."""

    def __init__(self, cancel_in: str = "", after: int = 0) -> None:
        self.phases: list[str] = []
        self.steps: list[tuple[int, int]] = []
        self._cancel_in, self._after = cancel_in, after

    def begin(self, phase: str) -> None:
        self.phases.append(phase)

    def check(self) -> None:
        if self.phases and self.phases[-1] == self._cancel_in and len(self.steps) >= self._after:
            raise Cancelled

    def step(self, done: int, total: int) -> None:
        self.steps.append((done, total))

    def latent_step(self, done: int, total: int, latents: torch.Tensor) -> None:
        raise AssertionError("there are no latents")


def settings_of(card: ModelCard, **changes: Any) -> Settings:
    return with_defaults({"precision": "fp32", **changes}, card.settings)


def request_of(card: ModelCard, **keys: Any) -> Any:
    own = {"height": 300, "width": 200} if card.task == "parse" else {"prompt_tokens": 20}
    asked = {"model": card.name, "task": card.task, "new_tokens": NEW_TOKENS, **own, **keys}
    request: Request = parse_request(asked, lambda *_: card)
    return request


def noisy(pipe: TextPipeline) -> TextPipeline:
    """Weights that are no pattern, so that answers depend on what is asked."""
    torch.manual_seed(0)
    for parameter in pipe.model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return pipe


@pytest.fixture(scope="module", params=PAGE_CARDS)
def pages_pipe(request: pytest.FixtureRequest) -> TextPipeline:
    card = PAGE_CARDS[request.param]()
    return noisy(qwen_vl.build_random(card, settings_of(card), "cpu"))


@pytest.fixture(scope="module", params=LANGUAGE_MODELS)
def language_pipe(request: pytest.FixtureRequest) -> TextPipeline:
    card = tiny_language(request.param)
    return noisy(language.build_random(card, settings_of(card), "cpu"))


class Given:
    """Pages that a test has at hand; None is one that cannot be opened."""

    def __init__(self, pages: list[Image.Image | None]) -> None:
        self.pages = pages
        self.numbers = range(1, len(pages) + 1)
        self.read: dict[int, tuple[list[Block], int, bool]] = {}

    @classmethod
    def one(cls) -> Given:
        return cls([picture(300, 200, 0)])

    def open(self, number: int) -> Image.Image | None:
        return self.pages[number - 1]

    def done(self, number, blocks, *, tokens=0, cut_off=False) -> None:
        self.read[number] = blocks, tokens, cut_off


def picture(height: int, width: int, seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def answers_of(pipe: TextPipeline, pages: list[Image.Image]) -> list[list[int]]:
    request = request_of(pipe.card, pages=len(pages))
    inputs = batch_inputs(pipe, request, pages)
    return write(pipe, inputs, NEW_TOKENS, Told(), lambda _: None)


def test_pages_go_through_their_phases_batch_by_batch(pages_pipe):
    report = Told()
    request = request_of(pages_pipe.card, pages=3)
    pages = Given([picture(300, 200, seed) for seed in range(3)])
    qwen_vl.run(pages_pipe, request, settings_of(pages_pipe.card, page_batch=2), report, pages)
    assert report.phases == ["vision", "prefill", "generate"] * 2
    total = 3 * NEW_TOKENS
    assert report.steps == [
        *((2 * count, total) for count in range(1, NEW_TOKENS + 1)),
        *((2 * NEW_TOKENS + count, total) for count in range(1, NEW_TOKENS + 1)),
    ]
    assert [(tokens, cut_off) for _, tokens, cut_off in pages.read.values()] == [
        (NEW_TOKENS, True)
    ] * 3
    assert not any(blocks for blocks, _, _ in pages.read.values())


def test_answers_go_through_their_phases(language_pipe):
    report = Told()
    request = request_of(language_pipe.card, batch=2)
    found = language.run(language_pipe, request, settings_of(language_pipe.card), report)
    assert report.phases == ["prefill", "generate"]
    assert report.steps == [(count, NEW_TOKENS) for count in range(1, NEW_TOKENS + 1)]
    assert found[0] == found[1] and len(found[0].tokens) == NEW_TOKENS


def test_one_token_needs_no_step(language_pipe):
    report = Told()
    request = request_of(language_pipe.card, new_tokens=1)
    found = language.run(language_pipe, request, settings_of(language_pipe.card), report)
    assert report.phases == ["prefill", "generate"] and len(found[0].tokens) == 1


def test_the_answer_is_the_librarys_and_the_hooks_are_gone(pages_pipe):
    request = request_of(pages_pipe.card)
    pages = [picture(300, 200, 1)]
    ours = answers_of(pages_pipe, pages)
    modules = list(pages_pipe.model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)
    inputs = batch_inputs(pages_pipe, request, pages)
    theirs = pages_pipe.model.generate(**inputs, max_new_tokens=NEW_TOKENS)
    assert ours == theirs[:, inputs["input_ids"].shape[1] :].tolist()
    assert len(set(ours[0])) > 1


@pytest.mark.parametrize("sizes", [((300, 200),) * 3, ((300, 200), (200, 300), (112, 128))])
def test_pages_at_a_time_are_read_as_each_alone(pages_pipe, sizes):
    """Also pages of other sizes, whose prompts are filled up on the left."""
    pages = [picture(*size, seed) for seed, size in enumerate(sizes)]
    together = answers_of(pages_pipe, pages)
    alone = [answers_of(pages_pipe, [page])[0] for page in pages]
    assert together == alone
    assert len({tuple(answer) for answer in together}) > 1


def test_the_picture_is_seen_at_the_size_that_is_planned(pages_pipe):
    card = pages_pipe.card
    for keys in ({"height": 300, "width": 200}, {"height": 900, "width": 700}, {"max_pixels": 9e4}):
        request = request_of(card, **keys)
        inputs = batch_inputs(pages_pipe, request, [picture(request.height, request.width, 0)])
        rows, columns = inputs["image_grid_thw"][0, 1:].tolist()
        patch = card.configs["model"]["vision_config"]["patch_size"]
        fed = card.fed_size(request.height, request.width, request.max_pixels)
        assert (rows * patch, columns * patch) == fed
        tokens = card.image_tokens(request)
        assert int(inputs["mm_token_type_ids"].sum()) == tokens
        assert inputs["input_ids"].shape == (1, tokens + card.prompt_tokens)


@pytest.mark.parametrize("eager", [False, True])
def test_attention_is_the_setting(eager):
    card = tiny_qwen25()
    name = "eager" if eager else "sdpa"
    pipe = noisy(qwen_vl.build_random(card, settings_of(card, attention=name), "cpu"))
    config = pipe.model.config
    used = {c._attn_implementation for c in (config, config.text_config, config.vision_config)}
    assert used == {name}
    plain = noisy(qwen_vl.build_random(card, settings_of(card), "cpu"))
    pages = [picture(300, 200, 3)]
    assert answers_of(pipe, pages) == answers_of(plain, pages)


@pytest.mark.parametrize("pages_pipe", ["qwen2.5-vl", "paddleocr-vl"], indirect=True)
@pytest.mark.parametrize(
    ("phase", "after"), [("vision", 0), ("prefill", 0), ("generate", 0), ("generate", 3)]
)
def test_a_cancel_is_seen_in_every_phase(pages_pipe, phase, after):
    settings = settings_of(pages_pipe.card)
    report = Told(phase, after)
    with pytest.raises(Cancelled):
        qwen_vl.run(pages_pipe, request_of(pages_pipe.card), settings, report, Given.one())
    assert report.phases[-1] == phase and len(report.steps) == after
    again = Told()
    qwen_vl.run(pages_pipe, request_of(pages_pipe.card), settings, again, Given.one())
    assert again.phases == ["vision", "prefill", "generate"]


def test_numbers_that_overflow_are_no_text():
    card = tiny_language("qwen3-4b")
    pipe = language.build_random(card, settings_of(card), "cpu")
    pipe.model.model.layers[1].mlp.down_proj.weight.data.fill_(float("inf"))
    with pytest.raises(RunFailed, match="overflowed"):
        language.run(pipe, request_of(card), settings_of(card), Told())


@pytest.mark.parametrize(
    "card", [*(tiny() for tiny in PAGE_CARDS.values()), *map(tiny_language, LANGUAGE_MODELS)]
)
def test_ties_and_number_formats_are_those_of_the_checkpoint(card):
    config = card.configs["model"]
    tied = config.get("tie_word_embeddings", False)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        settings = settings_of(card, precision=precision)
        real = text_model.build_random(card, settings, "cpu").model
        meta = text_model.build_meta(card, settings).model
        for model in (real, meta):
            assert (model.lm_head.weight is model.get_input_embeddings().weight) is tied
            assert {parameter.dtype for parameter in model.parameters()} == {dtype}
        sizes = [[p.nbytes for p in model.parameters()] for model in (real, meta)]
        assert sizes[0] == sizes[1]


def test_streamed_weights_write_the_same(pages_pipe):
    """The library's hooks, without a copy stream: tower and language model are chains apart."""
    card, settings = pages_pipe.card, settings_of(pages_pipe.card)
    modes = dict.fromkeys(text_model.PHASES_OF, "leaf")
    placement = Placement(modes, text_model.PHASES_OF, torch.device("cpu"))
    model = noisy(qwen_vl.build_random(card, settings, "cpu")).model
    text_model.place(model, placement)
    streamed = TextPipeline(card, model, torch.device("cpu"), placement)
    assert model.model.visual is not None and streamed.vision is model.model.visual
    pages = [picture(300, 200, seed) for seed in range(2)]
    assert answers_of(streamed, pages) == answers_of(pages_pipe, pages)
    assert answers_of(streamed, pages[:1]) == answers_of(pages_pipe, pages[:1])


def test_where_parts_live_on_a_card():
    settings = {"offload": "leaf"}
    parts = ("vision", "connector", "language")
    assert text_model.residency(settings, "cuda") == dict.fromkeys(parts, "leaf")
    assert set(text_model.residency(settings, "cpu").values()) == {"always"}
    assert set(text_model.residency({"offload": "none"}, "cuda").values()) == {"always"}


def tokenizer(folder: Path, tokens: list[str]) -> None:
    """A tokenizer of words, with the frame of a conversation, as a checkpoint has one."""
    words = Tokenizer(models.WordLevel({token: at for at, token in enumerate(tokens)}, "[unk]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = [token for token in tokens if token.startswith("<|")]
    made = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[unk]", additional_special_tokens=special
    )
    made.chat_template = (
        "{% for message in messages %}<|user|> {% if message.content is string %}"
        "{{ message.content }}{% else %}{% for part in message.content %}"
        "{% if part.type == 'image' %}<|image_pad|>{% else %} {{ part.text }}{% endif %}"
        "{% endfor %}{% endif %}{% endfor %} <|assistant|>"
    )
    made.save_pretrained(str(folder))


@pytest.fixture
def pages_folder(tmp_path: Path) -> Path:
    """A checkpoint in the library's layout, whose answers end with the end token."""
    card = tiny_qwen25("logics-parsing-v1")
    pipe = noisy(qwen_vl.build_random(card, settings_of(card), "cpu"))
    pipe.model.generation_config.eos_token_id = 205
    folder = tmp_path / "checkpoint"
    pipe.model.save_pretrained(str(folder))
    words = [f"w{index}" for index in range(256)]
    words[0], words[200], words[7], words[8] = "[unk]", "<|image_pad|>", "<|user|>", "<|assistant|>"
    words[9], words[10] = card.prompt.split()
    tokenizer(folder, words)
    return folder


def test_a_folder_is_loaded_and_its_pages_are_read(pages_folder, tmp_path):
    card = tiny_qwen25("logics-parsing-v1")
    weights = {"kind": "transformers", "folder": str(pages_folder)}
    pipe = qwen_vl.load(card, settings_of(card), weights, "cpu")
    keys = {"height": 240, "width": 180, "pages": 3}
    pages = Given([picture(240, 180, 0), None, picture(240, 180, 2)])
    qwen_vl.run(pipe, request_of(card, **keys), settings_of(card, page_batch=2), Told(), pages)
    assert list(pages.read) == [1, 3]
    inputs = batch_inputs(pipe, request_of(card, **keys), [picture(240, 180, 0)])
    tokens = card.image_tokens(request_of(card, **keys))
    assert inputs["input_ids"][0].tolist() == [7, *[200] * tokens, 9, 10, 8]
    for blocks, count, _ in pages.read.values():
        written = " ".join(block.text for block in blocks).split()
        assert 0 < len(written) <= count and all(word.startswith("w") for word in written)


def test_an_answer_ends_where_the_model_ends_it(pages_folder):
    card = tiny_qwen25("logics-parsing-v1")
    weights = {"kind": "transformers", "folder": str(pages_folder)}
    pipe = qwen_vl.load(card, settings_of(card), weights, "cpu")
    first = answers_of(pipe, [picture(240, 180, 0)])[0]
    pipe.model.generation_config.eos_token_id = first[2]
    stopped = answers_of(pipe, [picture(240, 180, 0)])[0]
    assert stopped == first[: first.index(first[2]) + 1]
    from webui.pipelines.prompts import answer_of

    assert list(answer_of(pipe, stopped).tokens) == stopped[:-1]


def test_a_language_folder_takes_the_prompt(tmp_path):
    card = tiny_language("glm-edge-1.5b")
    pipe = noisy(language.build_random(card, settings_of(card), "cpu"))
    pipe.model.save_pretrained(str(tmp_path))
    words = [f"w{index}" for index in range(256)]
    words[0], words[7], words[8] = "[unk]", "<|user|>", "<|assistant|>"
    tokenizer(tmp_path, words)
    weights = {"kind": "transformers", "folder": str(tmp_path)}
    loaded = language.load(card, settings_of(card), weights, "cpu")
    request = request_of(card, prompt="w20 w21 w22")
    assert language.prompt_tokens(loaded, request) == [7, 20, 21, 22, 8]
    one = language.run(loaded, request, settings_of(card), Told())
    other = language.run(loaded, request_of(card, prompt="w90 w91"), settings_of(card), Told())
    assert one != other and one[0].text


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda folder: (folder / "config.json").unlink(), MissingWeights, "config.json"),
        (
            lambda folder: (folder / "model.safetensors").unlink(),
            MissingWeights,
            "model.safetensors",
        ),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"nothing"),
            BadInput,
            "cannot be read",
        ),
        (lambda folder: _edit(folder, model_type="chatglm"), BadInput, "chatglm"),
        (lambda folder: _edit(folder, text_config={"num_hidden_layers": 9}), BadInput, "be read"),
        (
            lambda folder: _edit(folder, text_config={"hidden_size": 8}),
            BadInput,
            "hidden_size is 8",
        ),
        (lambda folder: _edit(folder, vision_config={"depth": 9}), BadInput, "depth"),
    ],
)
def test_a_folder_with_something_else_is_refused(pages_folder, change, error, words):
    change(pages_folder)
    card = tiny_qwen25("logics-parsing-v1")
    weights = {"kind": "transformers", "folder": str(pages_folder)}
    with pytest.raises(error, match=words) as caught:
        qwen_vl.load(card, settings_of(card), weights, "cpu")
    assert caught.value.field == "model" and caught.value.hint.zh


def _edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key, value in changes.items():
        config[key] = config[key] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(config))
