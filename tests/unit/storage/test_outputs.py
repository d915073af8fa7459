"""Run folders and the receipt inside the files, on real clips and pictures."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from webui.core.errors import NotEnoughDisk, NotFound, StudioError
from webui.storage import Outputs, read_metadata
from webui.storage.files import check_free, writing
from webui.storage.metadata import embed_apart, embed_metadata


@pytest.fixture
def outputs(tmp_path):
    return Outputs(tmp_path / "outputs")


@pytest.fixture
def finished(outputs, make_receipt, write_clip):
    """A run with a clip and a picture, finished."""
    from PIL import Image

    folder = outputs.new_folder("run-1")
    write_clip(folder / "clip.mp4")
    Image.new("RGB", (48, 32), (200, 10, 10)).save(folder / "frame.png")
    receipt = make_receipt(outputs=["clip.mp4", "frame.png"])
    outputs.finish(folder.name, receipt)
    return folder, receipt


def decode(path):
    import av

    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").tobytes() for frame in container.decode(video=0)]


def test_every_file_says_how_it_was_made(outputs, finished):
    folder, receipt = finished
    assert read_metadata(folder / "clip.mp4") == receipt.to_json()
    assert read_metadata(folder / "frame.png") == receipt.to_json()
    assert json.loads((folder / "receipt.json").read_text("utf-8")) == receipt.to_json()
    assert sorted(path.name for path in outputs.files(folder.name)) == ["clip.mp4", "frame.png"]
    assert not list(folder.glob(".*")), "temporary files were left"


def test_embedding_changes_no_frame(tmp_path, write_clip):
    clip = write_clip(tmp_path / "clip.mp4")
    before = decode(clip)
    assert embed_metadata(clip, {"prompt": "圆" * 2000}) is True
    assert decode(clip) == before and len(before) == 9
    assert embed_metadata(clip, {"again": 1}) and read_metadata(clip) == {"again": 1}


def test_a_picture_keeps_its_pixels(tmp_path):
    from PIL import Image

    path = tmp_path / "a.png"
    Image.linear_gradient("L").save(path)
    before = Image.open(path).tobytes()
    embed_metadata(path, {"a": 1})
    assert Image.open(path).tobytes() == before


def test_foreign_files_carry_nothing(tmp_path, write_clip):
    (tmp_path / "a.mp4").write_bytes(b"not a clip")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (tmp_path / "a.txt").write_text("{}")
    for name in ("a.mp4", "a.png", "a.txt", "none.mp4"):
        assert read_metadata(tmp_path / name) is None
    assert read_metadata(write_clip(tmp_path / "plain.mp4")) is None
    assert embed_metadata(tmp_path / "a.txt", {}) is False


def test_the_thumbnail_is_the_middle_frame(outputs, finished):
    from PIL import Image

    thumbnail = outputs.thumbnail(finished[0].name)
    with Image.open(thumbnail) as picture:
        assert picture.format == "JPEG"
        assert picture.getpixel((5, 5))[0] == pytest.approx(80, abs=6)


def test_a_broken_clip_still_gets_its_receipt(outputs, make_receipt):
    folder = outputs.new_folder("run-2")
    (folder / "clip.mp4").write_bytes(b"junk")
    (folder / "frame.png").write_bytes(b"junk")
    outputs.finish(folder.name, make_receipt("run-2", outputs=["clip.mp4", "frame.png"]))
    assert (folder / "clip.mp4").read_bytes() == b"junk"
    assert outputs.thumbnail(folder.name) is None
    assert sorted(os.listdir(folder)) == ["clip.mp4", "frame.png", "receipt.json"]


def test_a_root_that_cannot_be_made_is_explained(tmp_path):
    (tmp_path / "outputs").write_text("a file")
    with pytest.raises(StudioError, match="cannot be written"):
        Outputs(tmp_path / "outputs").new_folder("run-1")


BAD_NAMES = ["../x", "/etc", "..", "", "a/b", "2026-01-01-../../x", "2026-01-01-a/../..", "a\0b"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_no_name_leaves_the_root(outputs, finished, name):
    for call in (outputs.new_folder, outputs.folder, outputs.delete):
        with pytest.raises(NotFound):
            call(name)
    with pytest.raises(NotFound):
        outputs.file(finished[0].name, name)
    assert outputs.thumbnail(name) is None and outputs.files(name) == []


def test_links_are_not_followed(outputs, finished, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key.txt").write_text("x")
    os.symlink(secret, outputs.root / "2026-01-01-link")
    os.symlink(secret / "key.txt", finished[0] / "key.txt")
    with pytest.raises(NotFound):
        outputs.delete("2026-01-01-link")
    with pytest.raises(NotFound):
        outputs.file(finished[0].name, "key.txt")
    assert (secret / "key.txt").exists()


def test_a_deleted_run_is_gone_and_may_be_deleted_again(outputs, finished):
    name = finished[0].name
    outputs.delete(name)
    assert not finished[0].exists() and outputs.root.exists()
    outputs.delete(name)


def test_space_is_checked_before(outputs, tmp_path):
    with pytest.raises(NotEnoughDisk) as caught:
        outputs.check_space(2**60)
    assert "GiB are free" in caught.value.message.en
    check_free(tmp_path / "not" / "there" / "yet", 1)


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "receipt.json"
    path.write_text("old")
    with pytest.raises(NotEnoughDisk), writing(path) as part:
        part.write_text("half")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["receipt.json"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_the_system_says_full_as_we_expect():
    with pytest.raises(OSError) as caught, open("/dev/full", "w") as stream:
        stream.write("x")
    assert caught.value.errno == 28


def test_an_upscaled_video_is_opened_in_a_process_of_its_own(
    outputs, make_receipt, write_clip, monkeypatch
):
    def here(*_):
        raise AssertionError("opened in this process")

    folder = outputs.new_folder("run-3")
    clip = write_clip(folder / "upscaled.mp4")
    receipt = make_receipt("run-3", outputs=["upscaled.mp4"])
    receipt = replace(receipt, request={"task": "upscale", "input": "放大"})
    with monkeypatch.context() as patched:
        patched.setattr("av.open", here)
        outputs.finish(folder.name, receipt)
    assert read_metadata(clip) == receipt.to_json()

    content = clip.read_bytes()
    assert embed_apart(clip, {"a": 1}, within_s=0.01) is False, "it took too long"
    monkeypatch.setattr("webui.storage.outputs._EMBED_BYTES", len(content) - 1)
    outputs.finish(folder.name, replace(receipt, device="another"))
    assert clip.read_bytes() == content and not list(folder.glob(".*"))


def test_the_sidecar_is_json_that_people_can_read(outputs, finished):
    text = (finished[0] / "receipt.json").read_text(encoding="utf-8")
    assert json.loads(text)["id"] == "run-1" and "红色" in text


@pytest.mark.parametrize("encoder", ["libx264", "libsvtav1", "libx265"])
def test_embedding_keeps_what_a_clip_is(encoder, tmp_path):
    from fractions import Fraction

    import av
    import numpy as np

    from webui.video.writing import Encoding, Writer

    clip, base = tmp_path / "clip.mp4", Fraction(1, 1000)
    bits = 8 if encoder == "libx264" else 10
    how = Encoding(height=64, width=64, rate=Fraction(25), time_base=base, bits=bits,
                   encoder=encoder, aspect=Fraction(4, 3))  # fmt: skip
    with Writer(clip, how) as writer:
        for number in range(12):
            writer.write(np.full((64, 64, 3), number * 20, np.uint8), number * 40 + number % 3)

    def facts():
        with av.open(str(clip)) as container:
            stream = container.streams.video[0]
            times = [frame.time for frame in container.decode(stream)]
            tag, shape = stream.codec_context.codec_tag, stream.sample_aspect_ratio
            return tag, shape, stream.color_primaries, times

    before = facts()
    assert embed_metadata(clip, {"a": 1}) and read_metadata(clip) == {"a": 1}
    assert facts() == before
    content = clip.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # plays before all of it is there


def test_embedding_keeps_the_language_of_a_sound(tmp_path):
    import av
    import numpy as np

    clip = tmp_path / "clip.mp4"
    with av.open(str(clip), "w") as container:
        sounds = [container.add_stream("aac", rate=48000, layout="mono") for _ in range(2)]
        for sound, language in zip(sounds, ("deu", "jpn"), strict=True):
            sound.metadata["language"] = language
        for sound in sounds:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate = 48000
            container.mux([*sound.encode(frame), *sound.encode()])
    assert embed_metadata(clip, {"a": 1})
    with av.open(str(clip)) as container:
        assert [one.metadata["language"] for one in container.streams] == ["deu", "jpn"]
