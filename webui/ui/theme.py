"""Colours and type of the studio: system fonts only, no request leaves the machine."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

STYLESHEET = Path(__file__).parent / "assets" / "studio.css"
STYLESHEETS = (STYLESHEET, *map(STYLESHEET.with_name, ("upscale.css", "documents.css")))

_SANS = ["system-ui", "-apple-system", "Segoe UI", "PingFang SC", "Microsoft YaHei",
         "Noto Sans CJK SC", "Noto Sans SC", "sans-serif"]  # fmt: skip
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def build_theme() -> gr.themes.Base:
    """Calm slate surfaces and one indigo accent."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.indigo,
        secondary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        spacing_size=gr.themes.sizes.spacing_md,
        text_size=gr.themes.sizes.text_md,
        font=_SANS,
        font_mono=_MONO,
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        block_label_text_weight="500",
        block_title_text_weight="600",
        block_title_text_size="*text_sm",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="white",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
    )
