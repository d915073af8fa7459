"""A whole FlashVSR run: the authors' files and result, blocks, any number of frames, tiles."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit.pipelines.flashvsr_goldens import (
    Memory,
    difference,
    golden,
    small_card,
    write_checkpoint,
)
from webui.core.errors import BadInput, MissingWeights
from webui.pipelines import flashvsr
from webui.pipelines.flashvsr import blocks as blocks_module
from webui.pipelines.flashvsr import kernels
from webui.pipelines.flashvsr.attention import make_rule
from webui.pipelines.flashvsr.blocks import Blocks
from webui.pipelines.flashvsr.colour import fix_colour
from webui.pipelines.flashvsr.frames import (
    Chunk,
    Reader,
    count_ahead,
    count_chunks,
    enlarge,
    frames_of_latent,
)
from webui.pipelines.flashvsr.stream import Noise, Stream, to_levels, to_pixels
from webui.pipelines.flashvsr.transformer import TextKeys
from webui.pipelines.tiles import Tile

pytestmark = pytest.mark.usefixtures("one_thread")
SETTINGS = {"precision": "fp32", "decoder": "tiny", "offload": "none", "sparsity": "stable"}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("flashvsr")
    write_checkpoint(made)
    return made


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Any:
    weights = {"kind": "original", "folder": str(folder)}
    return flashvsr.load(small_card(), SETTINGS, weights, "cpu")


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    _, tensors = golden("pipeline_tiny")
    return tensors["in.lr_frames_u8"].numpy()[:, :32, :32].copy()


def request_of(**changes: Any) -> Any:
    own = {"scale": 4, "height": 32, "width": 32, "seed": 3, "colour": "adain"}
    return SimpleNamespace(**own | changes)


def run(
    pipe: Any, footage: Memory, settings: dict[str, Any] | None = None, **changes: Any
) -> Memory:
    chosen = SETTINGS | (settings or {})
    flashvsr.run(pipe, request_of(**changes), chosen, footage, footage)
    return footage


def test_result_is_that_of_the_authors(pipe: Any) -> None:
    """Loading, resizing, schedule, projection, transformer, decoder and colours in one."""
    about, tensors = golden("pipeline_tiny")
    small = tensors["in.lr_frames_u8"].numpy()
    # The authors cut to whole windows; a part of 32 x 32 in the middle is what they leave.
    middle = (Tile(1, 2, 32, 32),)
    rule = make_rule(
        128, 128, CPU, sparse_ratio=about["sparse_ratio"], local_range=about["local_range"]
    )
    stream, made, shown = Stream(pipe, rule, TextKeys()), [], {}
    with Reader([iter(small)], middle, about["scale"]) as reader:
        last = torch.tensor(reader.take(range(29, 30))[0][0])
        assert torch.equal(last, tensors["aux.lq_video_u8.29"])
        for chunk in (Chunk(0), Chunk(1)):
            found = [stream.project(to_pixels(reader.take(n), CPU)) for n in chunk.clips]
            tokens = torch.cat([item for item in found if item is not None], 1)
            noise = tensors["in.noise"][:, :, chunk.latents.start : chunk.latents.stop]
            latents = stream.denoise(noise, tokens)
            made.append(latents)
            for index, latent in enumerate(chunk.latents):
                numbers = frames_of_latent(latent)
                clip = to_pixels(reader.take(numbers), CPU)
                pictures = stream.decode(latents[:, :, index], clip)
                for at, picture in enumerate(pictures):
                    shown[numbers[at]] = fix_colour(picture, clip[:, :, at], "adain")[0]
    assert difference(torch.cat(made, 2), tensors["out.latents"]) < 1e-4
    assert sorted(shown) == list(range(29))
    for number in (0, 21, 28):
        assert difference(shown[number], tensors[f"out.frames.{number}"]) < 1e-3


def test_blocks_give_what_one_block_gives(pipe: Any, frames: np.ndarray) -> None:
    found = []
    for block_frames in (8, 96):
        footage = Memory(frames, [29])
        blocks = Blocks(pipe, request_of(), SETTINGS, footage, 29, block_frames)
        whole = (Tile(0, 0, 32, 32),)
        segment = footage.segments[0]
        with Reader([footage.read(segment)], whole, 4) as reader:
            clips = [clip[0] for _, clip in blocks.restore(reader, segment, whole, "adain")]
        found.append(np.concatenate(clips))
        phases = [item for item in footage.told if isinstance(item, str)]
        assert phases == ["project", "denoise", "decode"] * (2 if block_frames == 8 else 1)
    assert found[0].shape == (29, 128, 128, 3)
    assert np.array_equal(*found)


def test_nothing_is_compiled_after_the_warm_up(
    pipe: Any, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced and guarded as on a GPU; only what is traced is then run as it is."""
    traced: list[Any] = []

    def backend(module: Any, _inputs: Any) -> Any:
        traced.append(module)
        return module.forward

    compiled = torch.compile(kernels._flex, fullgraph=True, dynamic=False, backend=backend)
    monkeypatch.setattr(kernels, "_compiled", lambda: compiled)
    for module in (kernels, blocks_module):
        monkeypatch.setattr(module, "compiled_works", lambda *_: True)
        monkeypatch.setattr(module, "can_compile", lambda _: True)
    kernels.warm_up.cache_clear()
    footage, whole = Memory(frames, [29]), (Tile(0, 0, 32, 32),)
    blocks = Blocks(pipe, request_of(), SETTINGS, footage, 29)
    blocks.warm_up(whole)
    assert len(traced) == 2, "the first chunk, and every later one"
    segment = footage.segments[0]
    with Reader([footage.read(segment)], whole, 4) as reader:
        assert sum(1 for _ in blocks.restore(reader, segment, whole, "adain")) == 8
    assert len(traced) == 2
    kernels.warm_up.cache_clear()


def test_every_frame_comes_back(pipe: Any, frames: np.ndarray) -> None:
    """Segments of any length, of frames whose sides are no multiples of anything."""
    footage = run(pipe, Memory(frames[:, :19, :30], [1, 3]), scale=2, height=19, width=30)
    assert sorted(footage.written) == [(0, 0), *((1, index) for index in range(3))]
    assert {frame.shape for frame in footage.written.values()} == {(38, 60, 3)}
    assert footage.finished == [0, 1] and footage.all_written
    assert footage.told[-1] == (4, 4)
    # The colours of each frame are the input's.
    large = np.asarray(Image.fromarray(frames[0, :19, :30]).resize((60, 38), Image.BICUBIC))
    means = footage.written[0, 0].mean((0, 1)) - large.mean((0, 1))
    assert np.abs(means).max() < 2.5


def test_chunks_leave_no_frame_out() -> None:
    for count in range(1, 60):
        chunks = count_chunks(count)
        given = Chunk(chunks - 1).frames.stop
        assert count <= given
        assert chunks == 1 or Chunk(chunks - 2).frames.stop < count


def test_frames_that_are_read_ahead_take_no_more_memory_where_they_are_deeper() -> None:
    taken = {bits: count_ahead(2176, 3840, 1, bits) for bits in (8, 10)}
    assert 1 < taken[10] < taken[8] and 2 * taken[10] in (taken[8] - 1, taken[8])


def test_tiles_cover_the_frame_and_do_not_depend_on_their_batch(
    pipe: Any, frames: np.ndarray
) -> None:
    wide = np.concatenate((frames, frames[:, :, ::-1]), 2)[:3, :, :56]
    found = []
    for batch in (1, 2):
        settings = {"tile": 32, "tile_overlap": 8, "tile_batch": batch}
        footage = run(pipe, Memory(wide, [3]), settings, width=56)
        assert footage.told[-1] == (3, 3)
        found.append(np.stack([footage.written[0, index] for index in range(3)]).astype(int))
    assert found[0].shape == (3, 128, 224, 3)
    # Sums of a batch may be rounded in another way.
    assert np.abs(found[0] - found[1]).max() <= 4
    for frame, small in zip(found[0], wide, strict=True):
        large = enlarge(small, Tile(0, 0, 32, 56), 4)[:, :224]
        # The colours of each whole frame are the input's.
        assert np.abs(frame.mean((0, 1)) - large.mean((0, 1))).max() < 2.5


def test_tiles_that_ran_out_of_memory_are_done_again(
    pipe: Any, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at once fail in the middle of the clip; what they had given counts once."""
    wide = np.concatenate((frames, frames[:, :, ::-1]), 2)[:6, :, :56]
    settings = {"tile": 32, "tile_overlap": 8, "tile_batch": 1}
    expected = run(pipe, Memory(wide, [6]), settings, width=56).written
    decode = Stream.decode
    sentences: list[Any] = []
    pairs: list[bool] = []

    def fails(stream: Stream, latent: torch.Tensor, clip: torch.Tensor) -> Any:
        pairs.append(len(latent) == 2)
        if pairs[-1] and sum(pairs) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        yield from decode(stream, latent, clip)

    monkeypatch.setattr(Stream, "decode", fails)
    footage = Memory(wide, [6])
    footage.tell = sentences.append  # type: ignore[attr-defined]
    found = run(pipe, footage, settings | {"tile_batch": 2}, width=56).written
    assert "1 from now on" in sentences[0].en
    for key, frame in expected.items():
        assert np.abs(frame.astype(int) - found[key]).max() <= 4


def test_tile_as_small_as_its_overlap_is_refused(pipe: Any, frames: np.ndarray) -> None:
    with pytest.raises(BadInput, match="not larger than its overlap"):
        run(pipe, Memory(frames, [5]), {"tile": 32, "tile_overlap": 40})


def test_part_of_a_frame_is_enlarged_as_the_whole_is(frames: np.ndarray) -> None:
    whole = enlarge(frames[0], Tile(0, 0, 32, 32), 4)
    part = enlarge(frames[0], Tile(8, 4, 16, 12), 4)
    assert part.shape == (128, 128, 3)
    assert np.array_equal(part[:64, :48], whole[32:96, 16:64])
    assert np.array_equal(part[64:, :48], np.repeat(part[63:64, :48], 64, 0))


def test_noise_is_of_a_place_and_time() -> None:
    noise = Noise(7, 32, 48)
    whole = noise.of(5, [(0, 0)], (32, 48))
    tiles = noise.of(5, [(4, 10), (16, 32)], (16, 16))
    assert torch.equal(tiles[0, :, 0], whole[0, :, 0, 4:20, 10:26])
    assert torch.equal(tiles[1, :, 0], whole[0, :, 0, 16:, 32:])
    assert not torch.equal(noise.of(6, [(0, 0)], (32, 48)), whole)
    assert abs(float(whole.std()) - 1) < 0.05


def test_bytes_are_cut_as_the_authors_do() -> None:
    pixels = torch.tensor([-1.0, 0.0, 0.999, 1.0]).view(1, 1, 1, 4).expand(1, 3, 1, 4)
    assert to_levels(pixels)[0, 0, :, 0].tolist() == [0, 127, 254, 255]


def test_missing_file_is_named(folder: Path, tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "TCDecoder.ckpt").unlink()
    weights = {"kind": "original", "folder": str(tmp_path)}
    with pytest.raises(MissingWeights, match=r"TCDecoder\.ckpt"):
        flashvsr.load(small_card(), SETTINGS, weights, "cpu")


def test_weights_of_another_size_are_refused(folder: Path) -> None:
    card = small_card()
    configs = {**card.configs, "projection": {**card.configs["projection"], "hidden": [4, 16]}}
    weights = {"kind": "original", "folder": str(folder)}
    object.__setattr__(card, "configs", configs)
    with pytest.raises(BadInput, match=r"LQ_proj_in\.ckpt"):
        flashvsr.load(card, SETTINGS, weights, "cpu")


def test_random_and_meta_weights_have_the_same_bytes() -> None:
    settings = SETTINGS | {"precision": "bf16"}
    made = flashvsr.build_random(small_card(), settings, "cpu")
    traced = flashvsr.build_meta(small_card(), settings)
    for name in ("projection", "transformer", "decoder"):
        pairs = zip(
            getattr(made, name).named_parameters(),
            getattr(traced, name).named_parameters(),
            strict=True,
        )
        for (key, real), (other, empty) in pairs:
            assert (key, real.dtype, real.shape) == (other, empty.dtype, empty.shape)
    parameters = dict(made.transformer.named_parameters())
    assert parameters["scale_shift_table"].dtype == torch.float32
    assert parameters["patch_embedding.weight"].dtype == torch.bfloat16
