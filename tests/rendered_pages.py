"""Pages with known text, drawn for measuring how well they are read."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 1654, 2339
"""A4 at 200 dpi."""
MARGIN, GUTTER = 150, 90
_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "/Library/Fonts", "C:/Windows/Fonts")
_CHINESE = (
    "NotoSansCJK-Regular.ttc", "NotoSerifCJK-Regular.ttc", "NotoSansCJK-Bold.ttc", "msyh.ttc",
    "simsun.ttc",
)  # fmt: skip
_LATIN = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf", "arial.ttf", "times.ttf")
_SIMPLIFIED = 2
"""Place of the simplified Chinese letters in Noto's collections."""
ENGLISH = (
    "The studio says how much memory a model takes before it runs.",
    "Every figure stands beside the one that was measured.",
    "A page is cut where it is empty, across and down.",
    "In 1998 the committee met 14 times and agreed on 27 of 36 points.",
    "Weights that wait on the host are copied to the card layer by layer.",
    "Please send the signed form to the office before 30 September.",
    "Nothing that a visitor writes becomes the name of a file.",
    "The harbour was quiet; only two boats had left before sunrise.",
    "Results improve by 12.5 percent when the cache is warm.",
    "Who reads the whole report will find the answer on page 83.",
    "Mountains, rivers and valleys were drawn with great care.",
    "This agreement ends when either side gives notice in writing.",
)
CHINESE = (
    "本文档说明如何针对不同的显存配置优化模型运行。",
    "每一个数字旁边都有实际测得的结果。",
    "降低图片分辨率可以显著减少显存占用。",
    "会议于一九九八年举行，共有三十六项议题。",
    "权重按层从内存复制到显卡，计算不必等待。",
    "请在九月三十日之前把签好的表格交到办公室。",
    "港口十分安静，日出之前只有两条船离开。",
    "缓存预热之后，速度提高了百分之十二。",
    "阅读整份报告的人会在最后一页找到答案。",
    "山川与河谷都描绘得十分细致。",
    "任何一方书面通知之后，本协议即告终止。",
    "推荐使用默认设置，稳定性好，速度也快。",
)


@dataclass(frozen=True)
class Rendered:
    """A page and what stands on it, in reading order."""

    picture: Image.Image
    text: str


@cache
def fonts(chinese: bool) -> tuple[Path, ...]:
    """The fonts that are there."""
    names = _CHINESE if chinese else _LATIN
    found = [path for folder in _FOLDERS for path in Path(folder).rglob("*") if path.name in names]
    return tuple(sorted(found, key=lambda path: names.index(path.name)))


def render(number: int, turned_degrees: float = 0.0) -> Rendered:
    """One page: its language, font, size and columns follow from its number; some have a table."""
    chance = random.Random(number)
    chinese = number % 2 == 1
    path = fonts(chinese)[number // 2 % len(fonts(chinese))]
    size = chance.choice((26, 30, 34, 38))
    columns = 1 + number // 2 % 2
    page = _Page(path, size, chinese)
    page.title("".join(chance.sample(CHINESE, 1)) if chinese else chance.choice(ENGLISH))
    width = (WIDTH - 2 * MARGIN - (columns - 1) * GUTTER) // columns
    top, lowest = page.y, page.y
    for column in range(columns):
        page.y = top
        left = MARGIN + column * (width + GUTTER)
        while page.y < HEIGHT * 0.62:
            page.paragraph(_sentences(chance, chinese, 3), left, width)
        lowest = max(lowest, page.y)
    page.y = lowest + 2 * size
    if number % 3 == 0:
        page.table(chance, rows=5, columns=3)
    page.paragraph(_sentences(chance, chinese, 2), MARGIN, WIDTH - 2 * MARGIN)
    picture = page.picture
    if turned_degrees:
        picture = picture.rotate(turned_degrees, Image.Resampling.BICUBIC, fillcolor="white")
    return Rendered(picture, "\n".join(page.parts))


def _sentences(chance: random.Random, chinese: bool, count: int) -> str:
    return ("" if chinese else " ").join(chance.sample(CHINESE if chinese else ENGLISH, count))


class _Page:
    """A page as it is written."""

    def __init__(self, path: Path, size: int, chinese: bool) -> None:
        index = _SIMPLIFIED if chinese and path.name.startswith("Noto") else 0
        self.size, self.chinese = size, chinese
        self.font = ImageFont.truetype(path, size, index=index)
        self.large = ImageFont.truetype(path, int(size * 1.6), index=index)
        self.picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
        self.pencil = ImageDraw.Draw(self.picture)
        self.parts: list[str] = []
        self.y = MARGIN

    def title(self, text: str) -> None:
        text = text[:20] if self.chinese else " ".join(text.split()[:5])
        self.pencil.text((MARGIN, self.y), text, font=self.large, fill="black")
        self.parts.append(text)
        self.y += int(self.size * 3.4)

    def paragraph(self, text: str, left: int, width: int) -> None:
        for line in self._lines(text, width):
            self.pencil.text((left, self.y), line, font=self.font, fill="black")
            self.y += int(self.size * 1.55)
        self.parts.append(text)
        self.y += int(self.size * 0.8)

    def table(self, chance: random.Random, rows: int, columns: int) -> None:
        step = (WIDTH - 2 * MARGIN) // columns
        for row in range(rows):
            cells = [
                f"{chance.choice(('R', 'K', 'T'))}{row}{column} {chance.randint(100, 9999)}"
                for column in range(columns)
            ]
            for column, cell in enumerate(cells):
                place = (MARGIN + column * step + 10, self.y)
                self.pencil.text(place, cell, font=self.font, fill="black")
            self.parts.append(" ".join(cells))
            self.y += int(self.size * 1.9)
        self.y += 2 * self.size

    def _lines(self, text: str, width: int) -> list[str]:
        """The text cut to lines, as it is written: between words, or between letters."""
        words = list(text) if self.chinese else text.split(" ")
        glue = "" if self.chinese else " "
        lines, line = [], ""
        for word in words:
            longer = line + glue + word if line else word
            closes = self.chinese and word in "，。；"  # no line begins with it
            if line and not closes and self.font.getlength(longer) > width:
                lines.append(line)
                line = word
            else:
                line = longer
        return [*lines, line]
