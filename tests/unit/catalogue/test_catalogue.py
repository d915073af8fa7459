"""The catalogue: every card is a request that the studio accepts, and a wrong file is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from webui.catalogue import find_model, load_models, models_of
from webui.catalogue.families import FAMILIES
from webui.catalogue.loader import read_model
from webui.core.clip import ClipCard
from webui.core.errors import BadInput
from webui.core.parse import parse_request
from webui.core.settings import SETTINGS
from webui.core.training import TrainCard

MODELS = Path("webui/catalogue/models").resolve()


@pytest.fixture
def card_file(tmp_path: Path):
    """Writes a changed copy of a shipped card and returns its path."""

    stem = "wan2.1-t2v-1.3b"

    def write(**changes) -> Path:
        data = yaml.safe_load((MODELS / f"{stem}.yaml").read_text(encoding="utf-8"))
        for key, value in changes.items():
            if value is None:
                del data[key]
            else:
                data[key] = value
        path = tmp_path / f"{stem}.yaml"
        path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
        return path

    return write


def test_all_models_are_there_and_the_embedded_one_comes_first():
    assert next(iter(load_models())) == "demo"
    trained = ["omnisvg-4b", "omnisvg-8b", "qwen2.5-vl-3b", "qwen2.5-vl-7b"]
    assert list(models_of(TrainCard)) == trained


@pytest.mark.parametrize("name", list(models_of(ClipCard)))
def test_an_empty_request_takes_the_authors_values(name: str):
    card = find_model(name)
    request = parse_request({"model": name}, find_model)
    assert (request.width, request.height) in card.sizes
    assert request.frames == card.defaults.frames
    assert request.guidance == card.defaults.guidance


WAN = [name for name, card in load_models().items() if card.family == "wan"]


@pytest.mark.parametrize("name", WAN)
def test_configs_describe_one_pipeline(name: str):
    configs = find_model(name).configs
    transformer, latent = configs["transformer"], configs["vae"]["z_dim"]
    # Pictures come as a latent of their own and a mask of four channels.
    assert transformer["in_channels"] in (latent, 2 * latent + 4)
    assert transformer["out_channels"] == latent
    assert configs["transformer"]["text_dim"] == configs["text_encoder"]["d_model"]
    assert configs["scheduler"]["prediction_type"] == "flow_prediction"
    json.dumps(configs)


@pytest.mark.parametrize("name", list(load_models()))
def test_people_read_every_card_in_both_languages(name: str):
    card = find_model(name)
    for text in (card.about, *getattr(card, "examples", ())):
        assert text.en.isascii()
        assert any("\u4e00" <= character <= "\u9fff" for character in text.zh)


def test_wan_sizes_are_the_authors():
    small, large = find_model("wan2.1-t2v-1.3b"), find_model("wan2.1-t2v-14b")
    assert small.defaults.flow_shift == 8.0 and small.defaults.guidance == 6.0
    assert large.defaults.flow_shift == 5.0 and large.sizes[0] == (1280, 720)
    assert small.defaults.negative_prompt == large.defaults.negative_prompt
    assert small.defaults.negative_prompt.endswith("背景人很多，倒着走")
    without = set(FAMILIES["wan"].settings) - {"image_encoder"}
    assert small.settings == tuple(name for name in SETTINGS if name in without)


def test_svd_is_the_librarys():
    card = find_model("svd-xt")
    assert (card.defaults.frames, card.sizes[0]) == (25, (1024, 576))
    assert (card.defaults.guidance, card.defaults.fps, card.defaults.steps) == (3.0, 7, 25)
    assert card.workload == ("image",) and card.requires == ("image",)
    assert not card.needs_prompt
    assert card.setting_defaults == {"precision": "fp16", "vae_precision": "fp16"}
    unet, vae = card.configs["unet"], card.configs["vae"]
    assert unet["in_channels"] == 2 * vae["latent_channels"] == 2 * len(card.preview_factors)
    assert unet["cross_attention_dim"] == card.configs["image_encoder"]["projection_dim"]


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        ("svd-xt", "prompt", "a fox"),
        ("svd-xt", "flow_shift", 3.0),
        ("svd-xt", "solver", "dpm++"),
        ("demo", "image", "picture.png"),
    ],
)
def test_keys_that_would_change_nothing_are_refused(model: str, key: str, value: object):
    with pytest.raises(BadInput) as caught:
        parse_request({"model": model, key: value}, find_model)
    assert caught.value.field == key


@pytest.mark.parametrize("model", list(load_models()))
def test_a_recorded_request_is_taken_back(model: str):
    request = parse_request({"model": model}, find_model)
    assert parse_request(request.to_json(), find_model) == request


@pytest.mark.parametrize("name", list(models_of(TrainCard)))
def test_training_cards_are_requests(name: str):
    card = find_model(name, "train")
    request = parse_request({"task": "train", "model": name}, find_model)
    assert isinstance(card, TrainCard) and request.task == "train"
    for key in ("image_size", "sequence_length", "batch", "gradient_accumulation"):
        assert getattr(request, key) == getattr(card.defaults, key)
    assert card.settings == FAMILIES["qwen_vl_training"].settings
    config = card.configs["model"]
    assert card.max_positions == config["max_position_embeddings"]
    vision = config["vision_config"]
    assert card.size_multiple == vision["patch_size"] * vision["spatial_merge_size"]
    assert vision["out_hidden_size"] == config["hidden_size"]


def test_omnisvg_trains_as_its_authors():
    """OpenVGLab/OmniSVG-train: train_config.yaml, and the README's batch sizes."""
    small, large = find_model("omnisvg-4b", "train"), find_model("omnisvg-8b", "train")
    for card, batch in ((small, 4), (large, 2)):
        defaults = card.defaults
        assert (defaults.image_size, defaults.sequence_length) == (448, 2048)
        assert (defaults.gradient_accumulation, defaults.batch) == (4, batch)
        assert card.configs["model"]["vocab_size"] == 197000


def test_a_chunk_has_no_more_frames_than_the_clip():
    asked = {"model": "svd-xt", "frames": 8, "settings": {"decode_chunk": 9}}
    with pytest.raises(BadInput) as caught:
        parse_request(asked, find_model)
    assert caught.value.field == "settings.decode_chunk" and "8" in caught.value.hint.en
    assert parse_request(asked | {"frames": 9}, find_model).settings == {"decode_chunk": 9}


def test_the_demo_size_is_that_of_its_files():
    files = Path("webui/demo/checkpoint").glob("*/*.safetensors")
    size_bytes = sum(path.stat().st_size for path in files)
    assert find_model("demo").download_bytes == pytest.approx(size_bytes, rel=0.05)


def test_the_demo_defaults_are_those_it_was_measured_with():
    from webui.demo.vocabulary import DEFAULTS

    card = find_model("demo")
    for key in ("frames", "height", "width", "steps", "guidance", "flow_shift", "solver", "fps"):
        assert getattr(card.defaults, key) == getattr(DEFAULTS, key), key
    assert card.max_sequence_length == DEFAULTS.max_sequence_length


def test_the_demo_understands_its_examples():
    from webui.demo.vocabulary import parse

    for example in find_model("demo").examples:
        assert parse(example.en) == parse(example.zh)
        assert None not in (parse(example.en).shape, parse(example.en).motion)


@pytest.mark.parametrize("frames", [0, 10**9, 18])
def test_absurd_frames_are_refused(frames: int):
    with pytest.raises(BadInput) as caught:
        parse_request({"model": "demo", "frames": frames}, find_model)
    assert caught.value.field == "frames"


def test_an_unknown_model_offers_the_nearest_names():
    with pytest.raises(BadInput) as caught:
        find_model("wan2.1-t2v-1.4b")
    assert caught.value.field == "model"
    assert "wan2.1-t2v-1.3b" in caught.value.hint.en


def test_an_unchanged_copy_reads_the_same(card_file):
    assert read_model(card_file()) == find_model("wan2.1-t2v-1.3b")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"guidanse": 1}, "guidanse"),
        ({"fps": 12}, "fps"),
        ({"sizes": None}, "sizes"),
        ({"sizes": [[830, 480]]}, "sizes"),
        ({"settings": ["precisoin"]}, "precisoin"),
        ({"max_frames": 100}, "frames"),
        ({"download_bytes": "28 GB"}, "download_bytes"),
        ({"embedded": "no"}, "embedded"),
        ({"about": {"en": "only English"}}, "zh"),
        ({"name": "other"}, "name"),
        ({"family": "wann"}, "family"),
        ({"examples": "one"}, "examples"),
        ({"configs": {"transformer": "x.json"}}, "vae"),
        ({"setting_values": {"step_cash": ["none"]}}, "step_cash"),
        ({"setting_values": {"step_cache": ["nine"]}}, "setting_values.step_cache"),
    ],
)
def test_a_wrong_file_is_named_with_its_field(card_file, changes, field):
    with pytest.raises(BadInput) as caught:
        read_model(card_file(**changes))
    assert caught.value.field == field
    assert "wan2.1-t2v-1.3b.yaml" in caught.value.message.en


def test_a_missing_component_file_is_named(card_file):
    components = ("transformer", "vae", "text_encoder", "scheduler")
    configs = dict.fromkeys(components, "components/no.json")
    with pytest.raises(BadInput, match=r"components/no\.json cannot be read"):
        read_model(card_file(configs=configs))


@pytest.mark.parametrize("name", WAN)
def test_only_models_without_control_blocks_know_the_first_blocks_cache(name: str):
    """Theirs would be given the control clip's hints twice in every step that it shortens."""
    card = find_model(name)
    known = card.setting_values.get("step_cache", SETTINGS["step_cache"].choices)
    assert "taylorseer" in known
    assert ("first-block" in known) != bool(card.configs["transformer"].get("vace_layers"))
