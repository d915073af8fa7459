"""Pages of an input as pictures: a picture, a TIFF, a PDF, or a folder or ZIP of those.

One page is drawn at a time, one file is open at a time. Nothing is unpacked to the disk, and no
name from inside an archive becomes a path.
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pypdfium2
from PIL import Image, ImageOps, UnidentifiedImageError

from webui.core.documents import MAX_PAGES, MAX_SIDE_PX
from webui.core.errors import BadInput, StudioError
from webui.core.text import Text
from webui.core.units import MIB

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
"""Plain raster formats: decoders of others are larger, and hardly any page comes in them."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
PDF, ZIP = ".pdf", ".zip"
KINDS = (*PICTURES, PDF)
"""How the names of files with pages end."""
MAX_PIXELS = 100_000_000
"""A3 at 600 dpi has 70 million; a file of a few KiB can claim far more."""
MAX_FILE_BYTES = 2048 * MIB
MAX_MEMBER_BYTES = 256 * MIB
"""Of a file within an archive, which is read into memory."""
MAX_FILES = 20_000
"""Files of a folder or archive."""
KEPT_PAGES = 16
"""PDFium keeps what it read of a page until the document is closed: it is opened anew after so many
(500 scanned pages otherwise hold as much as the file has)."""
_POINTS = 72
_PASSWORD = pypdfium2.raw.FPDF_ERR_PASSWORD
_DIGITS = re.compile(r"([0-9]+)")
_BAD_PICTURE = (
    UnidentifiedImageError,
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    OverflowError,
)
"""What Pillow raises on files that are no whole pictures."""


@dataclass(frozen=True, slots=True)
class Document:
    """One file of an input."""

    name: str
    """For people; never used as a path."""
    pages: int
    error: StudioError | None = None
    """Why it cannot be opened; it then counts as one page, which fails."""


class Source:
    """The pages of an input, numbered through all of its files from 1.

    Args:
        path: a file or a folder.
        dpi: at which pages of a PDF are drawn.
        called: what a single file is called, where it is not what its path says.

    Raises:
        BadInput: it is not there, holds no pages, or is too large.
    """

    def __init__(self, path: Path, dpi: int, called: str = "") -> None:
        self.dpi = dpi
        self._open_name = ""
        self._open: _Pages | None = None
        self._archive: zipfile.ZipFile | None = None
        self._files = self._list(path)
        if not self._files:
            raise _no_pages(path.name)
        single = len(self._files) == 1 and self._archive is None and not path.is_dir()
        documents, starts, total = [], [], 0
        for name in self._files:
            document = self._count(name, single)
            if single and called:
                document = replace(document, name=called)
            starts.append(total)
            total += document.pages
            documents.append(document)
            if total > MAX_PAGES:
                raise refused(
                    f"it has more than {MAX_PAGES} pages", f"页数超过 {MAX_PAGES}", "pages"
                )
        self.documents = tuple(documents)
        self._starts = starts
        self.pages = total

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._leave()
        if self._archive is not None:
            self._archive.close()

    def place(self, number: int) -> tuple[Document, int]:
        """A page's file, and its number in it from 1."""
        index = max(i for i, start in enumerate(self._starts) if start < number)
        return self.documents[index], number - self._starts[index]

    def size(self, number: int) -> tuple[int, int]:
        """Height and width in pixels that a page is opened at.

        Raises:
            BadInput: it cannot be opened.
        """
        pages, within = self._enter(number)
        with _told():
            return pages.size(within)

    def open(self, number: int) -> Image.Image:
        """A page as a picture in RGB, upright, on white.

        Raises:
            BadInput: it cannot be opened, or is too large.
        """
        pages, within = self._enter(number)
        with _told():
            return pages.draw(within)

    def _enter(self, number: int) -> tuple[_Pages, int]:
        """The open file of a page; the one before it is closed."""
        index = max(i for i, start in enumerate(self._starts) if start < number)
        document = self.documents[index]
        if document.error is not None:
            raise document.error
        if self._open is None or self._open_name != str(self._files[index]):
            self._open = self._pages_of(self._files[index])
            self._open_name = str(self._files[index])
        return self._open, number - self._starts[index] - 1

    def _leave(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open, self._open_name = None, ""

    def _list(self, path: Path) -> list[Any]:
        """Files with pages: paths, or members of the archive."""
        if path.is_dir():
            found: list[Any] = [
                file
                for file in path.iterdir()
                if file.suffix.lower() in KINDS and not file.name.startswith(".") and file.is_file()
            ]
        elif not path.is_file():
            raise refused("it is not there", "文件不存在")
        elif path.suffix.lower() == ZIP:
            found = self._members(path)
        else:
            return [path] if path.suffix.lower() in KINDS else []
        if len(found) > MAX_FILES:
            raise refused(f"it has more than {MAX_FILES} files", f"文件超过 {MAX_FILES} 个")
        return sorted(found, key=lambda file: _natural(_name_of(file)))

    def _members(self, path: Path) -> list[Any]:
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            raise refused("it is not a whole ZIP file", "不是完整的 ZIP 文件") from None
        return [
            member
            for member in self._archive.infolist()
            if not member.is_dir()
            and PurePosixPath(member.filename).suffix.lower() in KINDS
            and not _name_of(member).startswith(".")
            and "__MACOSX" not in member.filename
        ]

    def _count(self, file: Any, single: bool) -> Document:
        name = _name_of(file)
        try:
            pages = self._pages_of(file)
            return Document(name, pages.count)
        except StudioError as error:
            if single:
                raise
            return Document(name, 1, error)
        finally:
            self._leave()

    def _pages_of(self, file: Any) -> _Pages:
        self._leave()
        name = _name_of(file)
        content: Path | io.BytesIO = file
        if isinstance(file, Path):
            if file.stat().st_size > MAX_FILE_BYTES:
                limit = MAX_FILE_BYTES // MIB
                raise refused(f"it is larger than {limit} MiB", f"文件超过 {limit} MiB")
        else:
            content = self._read(file)
        kind = PurePosixPath(name).suffix.lower()
        with _told():
            opened: _Pages = _Pdf(content, self.dpi) if kind == PDF else _Picture(content)
        self._open, self._open_name = opened, str(file)
        return opened

    def _read(self, member: zipfile.ZipInfo) -> io.BytesIO:
        """A file within the archive: what it says of its size is not believed."""
        assert self._archive is not None
        limit = MAX_MEMBER_BYTES // MIB
        try:
            with self._archive.open(member) as packed:
                content = packed.read(MAX_MEMBER_BYTES + 1)
        except RuntimeError:  # zipfile's word for a password
            raise refused("the ZIP file has a password", "ZIP 文件有密码") from None
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError):
            raise refused("it is damaged within the ZIP file", "在 ZIP 文件中已损坏") from None
        except Exception as error:  # zlib.error, lzma.LZMAError
            raise refused("it is damaged within the ZIP file", "在 ZIP 文件中已损坏") from error
        if len(content) > MAX_MEMBER_BYTES:
            raise refused(f"it is larger than {limit} MiB", f"文件超过 {limit} MiB")
        return io.BytesIO(content)


class _Pages:
    """One open file."""

    count: int

    def size(self, index: int) -> tuple[int, int]:
        raise NotImplementedError

    def draw(self, index: int) -> Image.Image:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class _Picture(_Pages):
    """A picture; of a TIFF all of its pages, of others the first."""

    def __init__(self, content: Path | io.BytesIO) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            self._image = Image.open(content, formats=FORMATS)
        several = self._image.format == "TIFF"
        self.count = int(getattr(self._image, "n_frames", 1)) if several else 1
        if not several:
            _check_pixels(self._image.width, self._image.height)

    def size(self, index: int) -> tuple[int, int]:
        if index or self.count > 1:
            self._image.seek(index)
        _check_pixels(self._image.width, self._image.height)
        turned = self._image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        size = (self._image.height, self._image.width)
        return (size[1], size[0]) if turned else size

    def draw(self, index: int) -> Image.Image:
        self.size(index)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            self._image.load()
            page = ImageOps.exif_transpose(self._image)
        if page.mode.startswith("I;16"):  # a plain conversion would cut off all but the darkest
            page = Image.fromarray((np.asarray(page) >> 8).astype(np.uint8))
        if page.mode in ("RGBA", "LA", "PA") or "transparency" in page.info:
            seen = page.convert("RGBA")
            page = Image.new("RGB", seen.size, "white")
            page.paste(seen, mask=seen.getchannel("A"))
        return page.convert("RGB")

    def close(self) -> None:
        self._image.close()


class _Pdf(_Pages):
    """A PDF, drawn page by page."""

    def __init__(self, content: Path | io.BytesIO, dpi: int) -> None:
        try:
            self._pdf = pypdfium2.PdfDocument(content)
        except pypdfium2.PdfiumError as error:
            if getattr(error, "err_code", None) == _PASSWORD:
                raise refused(
                    "the PDF has a password: save it without one", "PDF 有密码：请先另存为无密码"
                ) from None
            raise refused("it is not a whole PDF", "不是完整的 PDF") from None
        self.count = len(self._pdf)
        self._content, self._dpi, self._drawn = content, dpi, 0
        if not self.count:
            self._pdf.close()
            raise refused("the PDF has no pages", "PDF 没有页面")

    def size(self, index: int) -> tuple[int, int]:
        width, height = self._pdf.get_page_size(index)
        scale = self._scale(width, height)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def draw(self, index: int) -> Image.Image:
        if self._drawn == KEPT_PAGES:
            self._pdf.close()
            self._pdf, self._drawn = pypdfium2.PdfDocument(self._content), 0
        self._drawn += 1
        page = self._pdf[index]
        try:
            scale = self._scale(*page.get_size())
            bitmap = page.render(scale=scale, draw_annots=True, may_draw_forms=False)
            try:
                drawn: Image.Image = bitmap.to_pil().convert("RGB")
                return drawn
            finally:
                bitmap.close()
        finally:
            page.close()

    def _scale(self, width_pt: float, height_pt: float) -> float:
        """Pixels a point: less than asked where the page would be too large a picture."""
        scale = self._dpi / _POINTS
        width, height = max(width_pt, 1.0), max(height_pt, 1.0)
        most = min(MAX_SIDE_PX / max(width, height), (MAX_PIXELS / (width * height)) ** 0.5)
        return float(min(scale, most))

    def close(self) -> None:
        self._pdf.close()


@contextmanager
def _told() -> Iterator[None]:
    """Turns what the decoders raise on bad files into one clear error."""
    try:
        yield
    except (StudioError, MemoryError):
        raise
    except pypdfium2.PdfiumError:
        raise refused("this page of the PDF is damaged", "PDF 的这一页已损坏") from None
    except Image.DecompressionBombError:
        many = MAX_PIXELS // 1_000_000
        raise refused(
            f"a picture has more than {many} million pixels", f"图片超过 {many} 百万像素"
        ) from None
    except _BAD_PICTURE:
        raise refused("it is not a whole picture", "不是完整的图片") from None


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        many = MAX_PIXELS // 1_000_000
        raise refused(
            f"a picture of {width} x {height} px has more than {many} million pixels",
            f"{width} x {height} 的图片超过 {many} 百万像素",
        )


def _name_of(file: Any) -> str:
    """A file's name without its folders."""
    if isinstance(file, Path):
        return file.name
    return PurePosixPath(str(file.filename).replace("\\", "/")).name


def _natural(name: str) -> list[Any]:
    """Sorts `page10` after `page2`."""
    parts = _DIGITS.split(name.lower())
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def refused(why: str, why_zh: str, field: str = "input") -> BadInput:
    """A file, or one of its pages, that cannot be used."""
    return BadInput(
        field,
        Text(f"The document cannot be used: {why}.", f"无法使用这份文档：{why_zh}。"),
        _HINT,
    )


_HINT = Text(
    "Give a picture (PNG, JPEG, WebP, BMP, TIFF), a PDF, or a ZIP file of those.",
    "请提供图片（PNG、JPEG、WebP、BMP、TIFF）、PDF，或包含它们的 ZIP 文件。",
)


def _no_pages(name: str) -> BadInput:
    shown = name if len(name) <= 40 else name[:37] + "..."
    return BadInput("input", Text(f"'{shown}' holds no pages.", f"“{shown}”中没有页面。"), _HINT)
