"""Files that people edit: nothing that was saved is lost, whoever saves when."""

from __future__ import annotations

import threading

import pytest

from webui.core.errors import BadInput, Conflict, NotFound, StudioError
from webui.storage import Presets
from webui.storage.documents import Document
from webui.storage.history import History
from webui.storage.yaml_text import MAX_DOCUMENT_BYTES, BadYaml


@pytest.fixture
def document(tmp_path) -> Document:
    return Document(tmp_path / "a.yaml")


def test_every_version_can_be_read_again(document):
    saved = document.save("model: demo", "")
    assert saved.text == "model: demo\n" and document.path.read_text() == saved.text
    for frames in (1, 5, 9):
        saved = document.save(f"frames: {frames}\r\n", saved.seen)
    versions = document.versions()
    assert [document.version(version.id) for version in versions] == [
        "frames: 5\n", "frames: 1\n", "model: demo\n",
    ]  # fmt: skip
    assert versions[0].size_bytes == 10 and versions[0].replaced > versions[-1].replaced
    again = document.save("frames: 9", saved.seen)
    assert again == saved and len(document.versions()) == 3, "nothing changed, nothing is kept"


def test_the_later_of_two_editors_sees_a_conflict(document):
    start = document.save("frames: 1", "")
    mine = document.save("frames: 5", start.seen)
    with pytest.raises(Conflict) as caught:
        document.save("frames: 9", start.seen)
    assert caught.value.text == "frames: 5\n" and caught.value.seen == mine.seen
    assert document.read() == mine, "the first text stands"
    document.save("frames: 9", caught.value.seen)
    assert document.read().text == "frames: 9\n"
    assert "frames: 5\n" in [document.version(each.id) for each in document.versions()]


def test_a_preset_may_be_called_lock(tmp_path):
    document = Document(tmp_path / "lock.yaml")
    saved = document.save("frames: 1", "")
    saved = document.save("frames: 5", saved.seen)
    document.delete(saved.seen)
    assert [version.size_bytes for version in document.versions()] == [10, 10]


def test_a_new_name_that_is_taken_and_a_file_that_is_gone_are_conflicts(document):
    saved = document.save("frames: 1", "")
    with pytest.raises(Conflict, match="there already"):
        document.save("frames: 5", "")
    with pytest.raises(Conflict):
        document.delete("other")
    document.delete(saved.seen)
    assert not document.path.exists()
    with pytest.raises(Conflict, match="deleted"):
        document.save("frames: 5", saved.seen)
    with pytest.raises(NotFound):
        document.delete("")
    assert document.version(document.versions()[0].id) == "frames: 1\n"


def test_of_many_who_save_at_once_one_wins_and_the_others_know(document):
    seen = document.save("start: 1", "").seen
    ready = threading.Barrier(8)
    saved: list[str] = []
    refused: list[Conflict] = []

    def write(number: int) -> None:
        ready.wait()
        try:
            saved.append(Document(document.path).save(f"number: {number}", seen).text)
        except Conflict as error:
            refused.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(saved) == 1 and len(refused) == 7
    assert document.read().text == saved[0]
    assert all(error.text == saved[0] for error in refused)
    assert not [path for path in document.path.parent.iterdir() if ".part" in path.name]


def test_the_history_is_bounded_in_number_and_size(tmp_path):
    history = History(tmp_path, max_versions=3, max_total_bytes=25)
    for number in range(6):
        history.keep("a", f"text {number}".encode())
    kept = [history.read("a", version.id) for version in history.versions("a")]
    assert kept == [b"text 5", b"text 4", b"text 3"]
    history.keep("b", b"0123456789")
    kept = [history.read("a", version.id) for version in history.versions("a")]
    assert kept == [b"text 5", b"text 4"] and history.names() == ["a", "b"]
    history.keep("b", b"x" * 100)
    assert history.names() == ["b"], "a large one pushes everything out, and stays itself"
    for wrong in ("../../x", "20261127-190122-123456-1a2b3c4d/../y", ""):
        with pytest.raises(BadInput):
            history.read("b", wrong)
    with pytest.raises(NotFound):
        history.read("b", "20261127-190122-123456-1a2b3c4d")


def test_what_is_no_text_can_be_replaced_and_is_kept(document):
    document.path.write_bytes(b"caf\xe9")
    with pytest.raises(BadYaml, match="UTF-8"):
        document.read()
    with pytest.raises(Conflict) as caught:
        document.save("model: demo", "")
    document.save("model: demo", caught.value.seen)
    with pytest.raises(BadYaml):
        document.version(document.versions()[0].id)
    with pytest.raises(BadYaml):
        document.save("x" * (MAX_DOCUMENT_BYTES + 1), document.read().seen)
    assert document.read().text == "model: demo\n"


def test_a_folder_that_cannot_be_written_leaves_the_file_as_it_is(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StudioError, match="cannot be written"):
        Document(tmp_path / "file" / "a.yaml").save("model: demo", "")


def test_presets_that_were_deleted_are_listed_and_come_back(tmp_path):
    presets = Presets(tmp_path)
    presets.save("mine", {"model": "demo", "frames": 5})
    presets.save("mine", {"model": "demo", "frames": 9})
    presets.delete("mine")
    assert presets.names() == [] and presets.deleted() == ["mine"]
    document = presets.document("mine")
    frames = [document.version(version.id) for version in document.versions()]
    assert frames == ["model: demo\nframes: 9\n", "model: demo\nframes: 5\n"]
    document.save(frames[1], "")
    assert presets.load("mine").request["frames"] == 5 and presets.deleted() == []
    for name in ("con", "nul.x", "lpt1"):
        with pytest.raises(BadInput):
            presets.document(name)
