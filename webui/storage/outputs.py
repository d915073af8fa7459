"""The outputs: one folder a run, with its files, its receipt and a small picture of it."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

from webui.core.errors import NotFound
from webui.core.given_name import kept_name
from webui.core.receipt import Receipt
from webui.core.text import Text
from webui.core.units import MIB
from webui.storage.files import check_free, write_error, writing
from webui.storage.metadata import embed_apart, embed_metadata
from webui.storage.pictures import INPUT_PREFIX

RECEIPT = "receipt.json"
THUMBNAIL = "thumbnail.jpg"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_FOLDER = re.compile(r"\d{4}-\d\d-\d\d-" + _ID.pattern)
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
_THUMBNAIL_PX = 320
_PICTURES = (".png", ".jpg")
_CLIPS = (".mp4",)
_EMBED_BYTES = 256 * MIB
_SPARE_BYTES = 64 * MIB
"""Room that a run needs for its files, whatever their size."""


class Outputs:
    """Run folders under one root. Names are checked, so nothing outside of it is ever touched.

    Args:
        root: made when the first run is.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def new_folder(self, run_id: str) -> Path:
        """Makes the folder of a run: `<date>-<id>`.

        Raises:
            NotFound: `run_id` is not an id of the studio.
            NotEnoughDisk: the disk is full.
            StudioError: the root cannot be written.
        """
        if not _ID.fullmatch(run_id):
            raise _not_there(run_id)
        folder = self.root / f"{datetime.now(UTC):%Y-%m-%d}-{run_id}"
        check_free(self.root, _SPARE_BYTES)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(folder, error) from error
        return folder

    def check_space(self, needed_bytes: int) -> None:
        """Makes sure that a run of that size can be stored.

        Raises:
            NotEnoughDisk: names the needed and the free bytes.
        """
        check_free(self.root, needed_bytes + _SPARE_BYTES)

    def folder(self, name: str) -> Path:
        """The folder of that name (as `new_folder` made it and the ledger keeps it).

        Raises:
            NotFound: not a name of a run folder, a link out of the root, or not there.
        """
        path = self.root / name
        if not _FOLDER.fullmatch(name) or path.is_symlink() or not path.is_dir():
            raise _not_there(name)
        return path

    def file(self, folder: str, name: str) -> Path:
        """A file of a run.

        Raises:
            NotFound: not a plain file name, a link, or not there.
        """
        path = self.folder(folder) / name
        if not _FILE.fullmatch(name) or path.is_symlink() or not path.is_file():
            raise _not_there(name)
        return path

    def finish(self, folder: str, receipt: Receipt) -> None:
        """Writes the receipt beside the files of a run and into them, and makes the thumbnail.

        Files above `_EMBED_BYTES` do without it inside, since all of one is written anew. Upscaled
        videos carry sound of a stranger's and are opened only in a process of their own.

        Raises:
            NotEnoughDisk: the disk is full; the files themselves are whole.
        """
        data = receipt.to_json()
        path = self.folder(folder)
        with writing(path / RECEIPT) as part:
            part.write_text(json.dumps(data, ensure_ascii=False, indent=1), encoding="utf-8")
        for name in receipt.outputs:
            file = self.file(folder, Path(name).name)
            foreign = receipt.request.get("task") == "upscale" and file.suffix.lower() in _CLIPS
            if file.stat().st_size <= _EMBED_BYTES:
                (embed_apart if foreign else embed_metadata)(file, data)
            if not foreign and not (path / THUMBNAIL).exists():
                write_thumbnail(file, path / THUMBNAIL)

    def files(self, folder: str) -> list[Path]:
        """What a run made, without its receipt, thumbnail and input; empty when it is gone."""
        try:
            found = sorted(self.folder(folder).iterdir())
        except NotFound:
            return []
        return [
            path
            for path in found
            if path.name not in (RECEIPT, THUMBNAIL)
            and not path.name.startswith(INPUT_PREFIX)
            and _plain(path)
        ]

    def input_name(self, folder: str) -> str:
        """What a run's document or video is called; empty when nobody said so, or it is gone."""
        try:
            return kept_name(self.folder(folder))
        except NotFound:
            return ""

    def thumbnail(self, folder: str) -> Path | None:
        """The small picture of a run, or None."""
        path = self.root / folder / THUMBNAIL
        return path if _FOLDER.fullmatch(folder) and _plain(path) else None

    def delete(self, folder: str) -> None:
        """Removes a run folder with all its files; one that is gone already is fine.

        Raises:
            NotFound: not a name of a run folder.
            StudioError: the system does not let it go (a file is open on Windows).
        """
        try:
            path = self.folder(folder)
        except NotFound:
            if _FOLDER.fullmatch(folder) and not (self.root / folder).exists():
                return
            raise
        try:
            shutil.rmtree(path)
        except OSError as error:
            raise write_error(path, error) from error


def write_thumbnail(source: Path, target: Path) -> bool:
    """A small JPEG of a clip's middle frame, or of a picture.

    Returns:
        Whether one could be made.
    """
    import av
    from PIL import Image

    kind = source.suffix.lower()
    if kind not in (*_PICTURES, *_CLIPS):  # a text must not be read as one
        return False
    try:
        if kind in _PICTURES:
            with Image.open(source) as opened:
                picture = opened.convert("RGB")
        else:
            with av.open(str(source)) as container:
                middle = (container.streams.video[0].frames or 1) // 2
                for index, frame in enumerate(container.decode(video=0)):
                    picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
                    if index >= middle:
                        break
        picture.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
        with writing(target) as part:
            picture.save(part, format="JPEG", quality=85)
    except (OSError, ValueError, IndexError, UnboundLocalError):  # not a clip that can be read
        return False
    return True


def _plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and not path.name.startswith(".")


def _not_there(name: str) -> NotFound:
    shown = name[:60]
    return NotFound(Text(f"There is no file or run '{shown}'.", f"没有名为“{shown}”的文件或运行。"))
