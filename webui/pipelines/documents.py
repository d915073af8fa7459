"""What the runs over pages share: they take a page at a time and give its blocks back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from PIL import Image

from webui.documents.blocks import Block


class Pages(Protocol):
    """The pages that a run is to read, opened when they are asked for."""

    @property
    def numbers(self) -> Sequence[int]:
        """Those that are left, in order."""

    def open(self, number: int) -> Image.Image | None:
        """A page; None where it cannot be opened, which is noted."""

    def done(
        self, number: int, blocks: Sequence[Block], *, tokens: int = 0, cut_off: bool = False
    ) -> None:
        """What stood on a page that was opened."""

    def failed(self, number: int, error: Exception) -> None:
        """A page that was opened could not be read; the others go on."""
