"""Puts the tabs into one `gr.Blocks`, and says how it is launched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr
from starlette.middleware import Middleware

from webui.core.units import GIB
from webui.service.access import Access
from webui.ui import api, compare, generate, history, parse, profiler, upscale
from webui.ui.cards import CardsTab
from webui.ui.claims import ClaimsTab
from webui.ui.config_editor import ConfigTab
from webui.ui.dashboard import DashboardTab
from webui.ui.language import say
from webui.ui.monitor_routes import build_monitor_routes
from webui.ui.page import Page
from webui.ui.task_controls import build_memory
from webui.ui.theme import STYLESHEETS, build_theme
from webui.ui.uploading import MAX_UPLOAD_BYTES
from webui.ui.web import (
    DoorMiddleware,
    build_file_route,
    build_frame_route,
    build_page_route,
    build_profile_route,
)
from webui.ui.words import cards as cards_words
from webui.ui.words import claims as claims_words
from webui.ui.words import common as words
from webui.ui.words import compare as compare_words
from webui.ui.words import config_editor as config_words
from webui.ui.words import dashboard as dashboard_words
from webui.ui.words import generate as generate_words
from webui.ui.words import history as history_words
from webui.ui.words import parse as parse_words
from webui.ui.words import profiler as profiler_words
from webui.ui.words import upscale as upscale_words

if TYPE_CHECKING:
    from webui.service import Studio

CACHE_CHECK_S = 3600
CACHE_AGE_S = 24 * 3600
"""Copies of outputs that API clients fetch are gradio's; they go after a day."""

_SWITCH_LANGUAGE = """() => {
  const next = document.documentElement.lang.startsWith('zh') ? 'en' : 'zh';
  document.cookie = `studio_lang=${next}; path=/; max-age=31536000; samesite=lax`;
  setTimeout(() => location.reload(), 150);
}"""

_KEYS = """() => {
  document.addEventListener('keydown', event => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
      document.activeElement?.blur();
      [...document.querySelectorAll('#generate-run, #upscale-run, #parse-run')]
        .find(button => button.offsetParent)?.click();
    }
  });
  document.addEventListener('click', event => {
    const summary = event.target.closest('[data-panel-toggle]');
    summary?.closest('.vs-aside')?.toggleAttribute('data-open');
  });
}"""


QUEUE_LOOKS_S = 0.02
"""How often the queue of the API's calls looks for work."""


def build_app(studio: Studio, access: Access) -> tuple[gr.Blocks, dict[str, Any]]:
    """The whole page and its API, and what `launch` needs besides the address.

    Args:
        studio: the one door to planning and running.
        access: how the app is reached, which decides whose runs a visitor sees.
    """
    page = Page(studio=studio, access=access)
    with gr.Blocks(
        title="VRAM Studio", fill_width=True, analytics_enabled=False,
        delete_cache=(CACHE_CHECK_S, CACHE_AGE_S),
    ) as demo:  # fmt: skip
        header = gr.HTML(elem_id="studio-header", js_on_load=_HEADER_CLICKS)
        upscale_memory, documents_memory = build_memory("upscale"), build_memory("parse")
        with gr.Tabs(elem_id="studio-tabs") as tabs:
            with gr.Tab(page.labels(generate_words.TAB), id="generate"):
                first = generate.build_tab(page)
            with gr.Tab(page.labels(upscale_words.TAB), id="upscale"):
                larger = upscale.build_tab(page, upscale_memory)
            with gr.Tab(page.labels(parse_words.TAB), id="documents"):
                documents = parse.build_tab(page, documents_memory)
            with gr.Tab(page.labels(history_words.TAB), id="history") as history_tab:
                past = history.build_tab(page, tabs, first, larger, documents)
            with gr.Tab(page.labels(compare_words.TAB), id="compare") as compare_tab:
                beside = compare.build_tab(page, first)
            with gr.Tab(page.labels(dashboard_words.TAB), id="dashboard") as dashboard_tab:
                live = DashboardTab(page, tabs)
            with gr.Tab(page.labels(profiler_words.TAB), id="profiler") as profiler_tab:
                profiled = profiler.build_tab(page)
            with gr.Tab(page.labels(config_words.TAB), id="config") as config_tab:
                ConfigTab(page, tabs, first, larger, documents).wire_select(config_tab)
            with gr.Tab(page.labels(cards_words.TAB), id="cards") as cards_tab:
                known = CardsTab(page)
            with gr.Tab(page.labels(claims_words.TAB), id="claims") as claims_tab:
                claims = ClaimsTab(page)
        profiler_tab.select(
            profiled.on_select, [profiled.opened], profiled.outputs, queue=False,
            show_progress="hidden", api_visibility="private",
        )  # fmt: skip
        cards_tab.select(
            known.on_select, None, [known.tables], queue=False, show_progress="hidden",
            api_visibility="private",
        )  # fmt: skip
        dashboard_tab.select(
            live.on_select, [live.view], live.outputs, queue=False, show_progress="hidden",
            api_visibility="private",
        )  # fmt: skip
        compare_tab.select(
            beside.on_select, beside.select_inputs(), beside.outputs, queue=False,
            show_progress="hidden", api_visibility="private", preprocess=False,
        )  # fmt: skip
        history_tab.select(
            past.on_select, [past.count], [past.cards], queue=False, show_progress="hidden",
            api_visibility="private",
        )  # fmt: skip

        def on_header(request: gr.Request) -> str:
            return _render_header(page, page.visit(request).language)

        hidden: dict[str, Any] = {
            "queue": False, "show_progress": "hidden", "api_visibility": "private",
        }  # fmt: skip
        claims_tab.select(claims.on_select, None, claims.outputs, **hidden)
        demo.load(on_header, None, [header], js=_KEYS, **hidden)
        demo.load(first.on_load, first.load_inputs(), first.load_outputs(), **hidden)
        demo.load(larger.on_load, larger.load_inputs(), larger.load_outputs(), **hidden)
        demo.load(documents.on_load, documents.load_inputs(), documents.load_outputs(), **hidden)
        header.click(
            first.on_leave, first.kept_inputs(), [first.controls.memory], preprocess=False,
            **hidden,
        ).then(None, js=_SWITCH_LANGUAGE)  # fmt: skip
        api.build_api(page)
    demo.queue(default_concurrency_limit=None, api_open=False)
    # Gradio's queue looks for work a thousand times a second, which takes 7 % of a core from the
    # models all the time.
    demo._queue.sleep_when_free = QUEUE_LOOKS_S
    return demo, _launch_options(page)


def _launch_options(page: Page) -> dict[str, Any]:
    return {
        "theme": build_theme(),
        "css_paths": list(STYLESHEETS),
        "i18n": page.labels.i18n(),
        "footer_links": ["api"],
        "run_history": False,
        "show_error": False,
        "ssr_mode": False,
        "enable_monitoring": False,
        "pwa": False,
        "mcp_server": False,
        "max_file_size": MAX_UPLOAD_BYTES,
        "app_kwargs": {
            "middleware": [Middleware(DoorMiddleware, page=page)],
            "routes": [
                build_file_route(page),
                build_page_route(page),
                build_frame_route(page),
                build_profile_route(page),
                *build_monitor_routes(page),
            ],
        },
    }


_HEADER_CLICKS = """
element.addEventListener('click', event => {
  if (event.target.closest('#studio-language')) trigger('click', {});
});
"""


def _render_header(page: Page, language: str) -> str:
    card = page.detected()
    device = generate_words.THIS_PROCESSOR if card.kind == "cpu" else generate_words.THIS_MACHINE
    return (
        '<header class="vs-header"><div><h1>VRAM Studio</h1>'
        f"<p>{say(words.TAGLINE, language)}</p></div>"
        f'<div class="vs-header-side"><span class="vs-device" id="studio-device">'
        f"{say(device, language, card=card.title)} · {card.vram_bytes / GIB:.0f} GiB</span>"
        f'<button type="button" class="vs-button vs-quiet" id="studio-language" '
        f'title="{say(words.SWITCH_LANGUAGE, language)}">{say(words.OTHER_LANGUAGE, language)}'
        "</button></div></header>"
    )
