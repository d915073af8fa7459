"""Every sentence that a user sees, in both languages at the place where it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LANGUAGES = ("en", "zh")


@dataclass(frozen=True, slots=True)
class Text:
    """One sentence in English and Chinese. `str()` gives English, the language of the contracts."""

    en: str
    zh: str

    def __str__(self) -> str:
        return self.en

    def in_language(self, language: str) -> str:
        """The sentence in `language` ("zh..." gives Chinese, anything else English)."""
        return self.zh if language.lower().startswith("zh") else self.en

    def to_json(self) -> dict[str, str]:
        return {"en": self.en, "zh": self.zh}

    @classmethod
    def from_json(cls, data: Mapping[str, str] | str) -> Text:
        if isinstance(data, str):
            return cls(data, data)
        return cls(data["en"], data["zh"])


EMPTY = Text("", "")
