"""Which language a visitor reads, and how static labels reach the browser in it.

The server decides: the cookie that the switch in the page sets, else the browser's
Accept-Language. The page is told through `navigator.language` (see `web.py`), so that labels
translated in the browser and sentences written by the server never differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from http.cookies import CookieError, SimpleCookie
from itertools import count

import gradio as gr
from gradio.i18n import I18nData

from webui.core.text import LANGUAGES, Text

COOKIE = "studio_lang"
BROWSER_LOCALES = {"en": "en", "zh": "zh-CN"}
"""What gradio's own translations are called."""


def read_cookies(headers: Mapping[str, str]) -> dict[str, str]:
    """Cookies of a request by name; broken ones are left out."""
    jar = SimpleCookie()
    try:
        jar.load(headers.get("cookie", ""))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in jar.items()}


def language_of(headers: Mapping[str, str], default: str | None = None) -> str:
    """`en` or `zh` for the headers of a request.

    Args:
        headers: of the request.
        default: for visitors who have not chosen; None follows the browser.
    """
    chosen = read_cookies(headers).get(COOKIE, "")
    if chosen in LANGUAGES:
        return chosen
    if default in LANGUAGES:
        return str(default)
    ranked: list[tuple[float, int, str]] = []
    for place, part in enumerate(headers.get("accept-language", "").split(",")):
        tag, _, weight = part.strip().partition(";q=")
        try:
            ranked.append((-float(weight or 1), place, tag.lower()))
        except ValueError:
            continue
    for _, _, tag in sorted(ranked):
        if tag[:2] in LANGUAGES:
            return tag[:2]
    return "en"


def say(text: Text, language: str, **values: object) -> str:
    """A sentence for HTML: filled in, and escaped."""
    sentence = text.in_language(language)
    return escape(sentence.format(**values) if values else sentence)


class Labels:
    """Collects the page's static labels; gradio's i18n shows them in the browser's language."""

    def __init__(self) -> None:
        self._keys: dict[Text, str] = {}
        self._count = count(1)

    def __call__(self, text: Text) -> I18nData:
        """A label for any gradio component; the same text gets the same key."""
        if text not in self._keys:
            self._keys[text] = f"studio_{next(self._count)}"
        return I18nData(self._keys[text])

    def texts(self) -> dict[str, Text]:
        """All labels by key."""
        return {key: text for text, key in self._keys.items()}

    def i18n(self) -> gr.I18n:
        """For `launch(i18n=...)`."""
        return gr.I18n(
            **{
                locale: {key: text.in_language(language) for text, key in self._keys.items()}
                for language, locale in BROWSER_LOCALES.items()
            }
        )
