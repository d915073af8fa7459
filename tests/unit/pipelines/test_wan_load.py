"""Weights from both layouts, random and meta: same numbers, same number formats, clear errors."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from webui.core.clip import ClipCard, ClipRequest
from webui.core.errors import BadInput, MissingWeights
from webui.core.settings import Settings
from webui.pipelines import wan
from webui.pipelines.running import check_finite


def formats(pipe: object) -> dict[str, torch.dtype]:
    """dtype by parameter name over all components; tied parameters once."""
    found = {}
    for component in ("text_encoder", "transformer", "vae"):
        for name, parameter in getattr(pipe, component).named_parameters():
            found[f"{component}.{name}"] = parameter.dtype
    return found


def run(pipe: object, request: ClipRequest, settings: Settings) -> np.ndarray:
    embeddings = wan.encode(pipe, request, settings)
    return wan.decode(pipe, wan.denoise(pipe, embeddings, request), settings)


def test_original_layout_gives_the_same_frames(
    diffusers_folder: Path,
    original_folder: Path,
    tiny_card: ClipCard,
    settings: Settings,
    request_: ClipRequest,
) -> None:
    assert wan.detect_layout(diffusers_folder) == "diffusers"
    assert wan.detect_layout(original_folder) == "original"
    one = wan.load_diffusers(diffusers_folder, tiny_card, settings, "cpu")
    other = wan.load_original(original_folder, tiny_card, settings, "cpu")
    assert formats(one) == formats(other)
    frames = run(one, request_, settings)
    assert frames.shape == (5, 64, 64, 3) and frames.dtype == np.uint8
    assert frames.std() > 1
    for component in ("text_encoder", "transformer", "vae"):
        mine, theirs = getattr(one, component).state_dict(), getattr(other, component).state_dict()
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[key]) for key, value in mine.items())
    # Kernels may round differently where the weights lie at another alignment.
    again = run(other, request_, settings)
    assert np.abs(frames.astype(int) - again).max() <= 2


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_way_has_the_formats_of_from_pretrained(
    precision: str,
    diffusers_folder: Path,
    original_folder: Path,
    tiny_card: ClipCard,
    settings: Settings,
) -> None:
    settings["precision"] = precision
    settings["vae_precision"] = precision
    pipe = wan.load_diffusers(diffusers_folder, tiny_card, settings, "cpu")
    expected = formats(pipe)
    kept = {name for name, dtype in expected.items() if dtype == torch.float32}
    assert (len(kept) == len(expected)) == (precision == "fp32")
    assert formats(wan.load_original(original_folder, tiny_card, settings, "cpu")) == expected
    assert formats(wan.build_random(tiny_card, settings, "cpu")) == expected
    assert formats(wan.build_meta(tiny_card, settings)) == expected


def test_embeddings_stay_tied(tiny_card: ClipCard, settings: Settings) -> None:
    for pipe in (wan.build_meta(tiny_card, settings), wan.build_random(tiny_card, settings, "cpu")):
        encoder = pipe.text_encoder
        assert encoder.shared.weight is encoder.encoder.embed_tokens.weight


def test_tensors_own_their_storage(
    diffusers_folder: Path, tiny_card: ClipCard, settings: Settings
) -> None:
    pipe = wan.load_diffusers(diffusers_folder, tiny_card, settings, "cpu")
    for parameter in pipe.transformer.parameters():
        assert parameter.untyped_storage().nbytes() == parameter.numel() * parameter.element_size()


def test_random_weights_run_without_overflow(
    tiny_card: ClipCard, settings: Settings, request_: ClipRequest
) -> None:
    settings["text_encoder"] = "absent"
    pipe = wan.build_random(tiny_card, settings, "cpu")
    assert pipe.text_encoder is None
    embeddings = wan.encode(pipe, request_, settings)
    assert embeddings.positive.shape == (1, 16, 32)
    latents = wan.denoise(pipe, embeddings, request_)
    check_finite(latents)
    assert wan.decode(pipe, latents, settings).std() > 1


def test_real_weights_need_a_text_encoder(
    diffusers_folder: Path, tiny_card: ClipCard, settings: Settings
) -> None:
    settings["text_encoder"] = "absent"
    with pytest.raises(BadInput) as caught:
        wan.load(tiny_card, settings, {"kind": "diffusers", "folder": str(diffusers_folder)}, "cpu")
    assert caught.value.field == "settings.text_encoder"


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a checkpoint folder") as caught:
        wan.detect_layout(tmp_path)
    assert caught.value.field == "model"
    assert "model_index.json" in caught.value.hint.en
    with pytest.raises(MissingWeights):
        wan.detect_layout(tmp_path / "nothing")


def test_another_models_folder(
    diffusers_folder: Path, tiny_card: ClipCard, settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(diffusers_folder, folder)
    config = folder / "transformer/config.json"
    config.write_text(config.read_text().replace('"num_layers": 2', '"num_layers": 3'))
    with pytest.raises(BadInput, match="num_layers 3 instead of 2"):
        wan.load_diffusers(folder, tiny_card, settings, "cpu")


@pytest.mark.parametrize(
    "victim", ["vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"]
)
def test_missing_and_damaged_files(
    victim: str, diffusers_folder: Path, tiny_card: ClipCard, settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(diffusers_folder, folder)
    (folder / victim).write_bytes((folder / victim).read_bytes()[:1000])
    with pytest.raises(BadInput, match="cannot be read"):
        wan.load_diffusers(folder, tiny_card, settings, "cpu")
    (folder / victim).unlink()
    with pytest.raises(MissingWeights, match="is missing"):
        wan.load_diffusers(folder, tiny_card, settings, "cpu")


def test_damaged_original_files(
    original_folder: Path, tiny_card: ClipCard, settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(original_folder, folder)
    path = folder / "Wan2.1_VAE.pth"
    values = torch.load(path, weights_only=True)
    values.pop(next(iter(values)))
    torch.save(values, path)
    with pytest.raises(BadInput, match=r"vae: .* is missing"):
        wan.load_original(folder, tiny_card, settings, "cpu")
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(BadInput, match="cannot be read"):
        wan.load_original(folder, tiny_card, settings, "cpu")


def test_cached_prompts_need_no_text_encoder(
    diffusers_folder: Path,
    tiny_card: ClipCard,
    settings: Settings,
    request_: ClipRequest,
    tmp_path: Path,
) -> None:
    plain = wan.load_diffusers(diffusers_folder, tiny_card, settings, "cpu")
    expected = wan.encode(plain, request_, settings)
    cached = {**settings, "text_encoder": "cached"}
    weights = {
        "kind": "diffusers",
        "folder": str(diffusers_folder),
        "embeddings": str(tmp_path / "kept"),
    }
    pipe = wan.load(tiny_card, cached, weights, "cpu")
    for _ in range(2):
        found = wan.encode(pipe, request_, cached)
        assert torch.equal(found.positive, expected.positive)
        assert torch.equal(found.negative, expected.negative)
        assert pipe.text_encoder is None
    files = sorted((tmp_path / "kept").iterdir())
    assert len(files) == 2 and sum(file.stat().st_size for file in files) < 8192

    def never() -> None:
        raise AssertionError("the encoder is not needed")

    again = wan.load(tiny_card, cached, weights, "cpu")
    again.prompts._load = never
    assert torch.equal(wan.encode(again, request_, cached).positive, expected.positive)
    with pytest.raises(AssertionError, match="not needed"):
        wan.encode(again, request_.with_changes(prompt="another"), cached)
    files[0].write_bytes(b"broken")
    assert torch.equal(wan.encode(pipe, request_, cached).positive, expected.positive)
