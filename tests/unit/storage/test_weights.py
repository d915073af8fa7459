"""Finding and fetching weights: folders of both layouts, and a real download from a local hub."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from webui.catalogue import find_model
from webui.core.errors import Cancelled, MissingWeights, NotEnoughDisk
from webui.storage import Download, StudioConfig, find_weights, missing_weights
from webui.storage.weights import hub_cache, missing_parts, repository_folder

WAN = find_model("wan2.1-t2v-1.3b")


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def config(tmp_path):
    return StudioConfig(hub_cache=tmp_path / "cache")


def configured(folder: Path) -> StudioConfig:
    return StudioConfig(models={WAN.name: folder}, hub_cache=folder / "none")


def test_the_demo_comes_with_the_studio(config):
    source = find_weights(find_model("demo"), config)
    assert source.kind == "embedded" and (Path(source.folder) / "model_index.json").is_file()


def test_nothing_is_found_where_nothing_is(config):
    assert find_weights(WAN, config) is None
    error = missing_weights(WAN, config)
    for part in (WAN.hub, "26.92 GiB", str(config.hub_cache), "studio.yaml"):
        assert part in error.hint.en and part in error.hint.zh


def test_a_diffusers_folder_is_taken(tmp_path, checkpoint_files):
    folder = write_files(tmp_path / "w", checkpoint_files(10))
    source = find_weights(WAN, configured(folder))
    assert source.to_json() == {"kind": "diffusers", "folder": str(folder)}


@pytest.mark.parametrize(
    "name",
    [
        "vae/diffusion_pytorch_model.safetensors",
        "transformer/diffusion_pytorch_model-00002-of-00002.safetensors",
        "text_encoder/config.json",
        "tokenizer/tokenizer.json",
        "scheduler/scheduler_config.json",
    ],
)
def test_an_incomplete_folder_says_what_it_lacks(tmp_path, name, checkpoint_files):
    folder = write_files(tmp_path, checkpoint_files(10))
    (folder / name).unlink()
    assert missing_parts(folder, WAN) == [name]
    with pytest.raises(MissingWeights, match=name.replace(".", r"\.")):
        find_weights(WAN, configured(folder))


def test_an_empty_shard_is_not_a_shard(tmp_path, checkpoint_files):
    folder = write_files(tmp_path, checkpoint_files(10))
    (folder / "vae/diffusion_pytorch_model.safetensors").write_bytes(b"")
    with pytest.raises(MissingWeights):
        find_weights(WAN, configured(folder))


@pytest.mark.parametrize("place", ["transformer/any-Q4_K_M.gguf", "any-Q4_K_M.gguf"])
def test_a_transformer_in_gguf_is_enough(tmp_path, checkpoint_files, place):
    files = {
        name: data
        for name, data in checkpoint_files(10).items()
        if not (name.startswith("transformer/") and "safetensors" in name)
    }
    folder = write_files(tmp_path / "w", files)
    with pytest.raises(MissingWeights, match="transformer"):
        find_weights(WAN, configured(folder))
    write_files(folder, {place: b"GGUF"})
    assert find_weights(WAN, configured(folder)).kind == "diffusers"


def test_the_original_layout_is_taken(tmp_path):
    files = {
        "Wan2.1_VAE.pth": b"v",
        "models_t5_umt5-xxl-enc-bf16.pth": b"t",
        "diffusion_pytorch_model.safetensors": b"d",
        "google/umt5-xxl/spiece.model": b"s",
        "config.json": json.dumps({"num_layers": 30, "num_heads": 12, "in_dim": 16}).encode(),
    }
    folder = write_files(tmp_path, files)
    assert find_weights(WAN, configured(folder)).kind == "original"
    with pytest.raises(MissingWeights, match="another model"):
        find_weights(find_model("wan2.1-t2v-14b"), StudioConfig(models={"wan2.1-t2v-14b": folder}))
    (folder / "Wan2.1_VAE.pth").unlink()
    with pytest.raises(MissingWeights, match=r"Wan2\.1_VAE\.pth"):
        find_weights(WAN, configured(folder))


@pytest.mark.parametrize(("make", "reason"), [(False, "not there"), (True, "neither known layout")])
def test_a_wrong_folder_is_named(tmp_path, make, reason):
    folder = tmp_path / "w"
    if make:
        folder.mkdir()
    with pytest.raises(MissingWeights, match=reason):
        find_weights(WAN, configured(folder))


def test_the_hub_cache_is_where_the_hub_puts_it(monkeypatch, tmp_path):
    from huggingface_hub import constants

    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    assert str(hub_cache(StudioConfig())) == constants.default_cache_path.replace(
        "~", str(Path.home())
    ) or Path(constants.HF_HUB_CACHE)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert hub_cache(StudioConfig()) == tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "x"))
    assert hub_cache(StudioConfig()) == tmp_path / "x"


def test_a_download_is_found_afterwards(hub, config):
    download = Download(WAN, config)
    download.start()
    progress = download.wait(20)
    assert (progress.state, progress.error) == ("done", None)
    needed = {name for name in hub.files if name != "README.md"}
    assert set(hub.fetched) == needed and len(hub.fetched) == len(needed)
    assert progress.total_bytes == sum(len(hub.files[name]) for name in needed)
    assert progress.done_bytes == progress.total_bytes
    assert find_weights(WAN, config).kind == "diffusers"


@pytest.mark.parametrize(
    ("model", "files", "fetched"),
    [
        ("swin2sr-classical-x2", ("model.safetensors", "pytorch_model.bin"), "model.safetensors"),
        ("swin2sr-realworld-x4", ("pytorch_model.bin",), "pytorch_model.bin"),
    ],
)
def test_an_upscaler_is_fetched_by_the_files_that_its_card_lists(
    hub, config, model, files, fetched
):
    card = find_model(model)
    hub.repository = card.hub
    hub.files = {name: name.encode() for name in ("config.json", "README.md", *files)}
    download = Download(card, config)
    download.start()
    assert download.wait(20).state == "done"
    assert sorted(hub.fetched) == ["config.json", fetched]
    assert find_weights(card, config).kind == "files"


def test_a_file_that_the_hub_does_not_have_is_named(config):
    card = find_model("flashvsr-v1.1")
    folder = write_files(
        config.hub_cache / "flash", {name: b"x" for name in card.files if "posi" not in name}
    )
    with pytest.raises(MissingWeights) as caught:
        find_weights(card, StudioConfig(models={card.name: folder}))
    assert "it lacks posi_prompt.pth" in caught.value.message.en
    assert "posi_prompt.pth" in missing_weights(card, config).hint.en


def test_a_cancelled_download_goes_on_where_it_was(hub, config):
    last = "transformer/diffusion_pytorch_model-00002-of-00002.safetensors"
    hub.pause = lambda name: 30.0 if name == last else 0.0
    download = Download(WAN, config)
    download.start()
    ends = time.monotonic() + 15
    others = len(hub.files) - 2  # all but the README and the one that hangs
    snapshots = repository_folder(WAN.hub, config.hub_cache) / "snapshots"
    while time.monotonic() < ends and (
        last not in hub.fetched or len([p for p in snapshots.rglob("*") if p.is_file()]) < others
    ):
        time.sleep(0.05)
    going = download.progress()
    assert going.state == "running" and 0 < going.done_bytes < going.total_bytes
    download.cancel()
    ended = download.wait(10)
    assert ended.state == "cancelled" and isinstance(ended.error, Cancelled)
    assert find_weights(WAN, config) is None
    assert not list(config.hub_cache.rglob("*.incomplete")), "half a file was left behind"

    hub.pause, hub.fetched = (lambda name: 0.0), []
    again = Download(WAN, config)
    again.start()
    assert again.wait(20).state == "done"
    assert hub.fetched == [last]
    assert find_weights(WAN, config) is not None


def test_without_a_network_the_way_out_is_said(config, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    download = Download(WAN, config)
    download.start()
    progress = download.wait(30)
    assert progress.state == "failed" and isinstance(progress.error, MissingWeights)
    assert WAN.hub in progress.error.message.en
    assert str(config.hub_cache) in progress.error.hint.en


def test_a_repository_that_is_not_there_is_told_from_no_network(hub, config):
    hub.repository = "someone/else"
    download = Download(WAN, config)
    download.start()
    progress = download.wait(20)
    assert isinstance(progress.error, MissingWeights)
    assert "the hub does not have it" in progress.error.message.en


def test_a_small_disk_is_noticed_before_anything_is_fetched(hub, config, monkeypatch):
    monkeypatch.setattr("webui.storage.files.free_bytes", lambda folder: 10**9)
    with pytest.raises(NotEnoughDisk) as caught:
        Download(WAN, config).start()
    assert "27.92 GiB" in caught.value.message.en and "954 MiB" in caught.value.message.en
    assert hub.fetched == []


def test_a_model_of_transformers_is_found_by_its_own_files(tmp_path):
    card = find_model("logics-parsing-v1")
    folder = tmp_path / "logics"
    folder.mkdir()
    config = StudioConfig(models={card.name: folder})

    def why() -> str:
        with pytest.raises(MissingWeights) as caught:
            find_weights(card, config)
        return caught.value.message.en

    (folder / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    assert "known layout" in why()
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (folder / shards["a"]).write_bytes(b"x")
    assert "tokenizer.json" in why() and shards["b"] in why()
    (folder / shards["b"]).write_bytes(b"x")
    (folder / "tokenizer.json").write_text("{}")
    found = find_weights(card, config)
    assert found is not None and (found.kind, found.folder) == ("transformers", str(folder))
    (folder / "config.json").write_text('{"model_type": "qwen3_vl"}')
    assert "another model" in why()
    with pytest.raises(MissingWeights):
        find_weights(
            find_model("wan2.1-t2v-1.3b"), StudioConfig(models={"wan2.1-t2v-1.3b": folder})
        )
