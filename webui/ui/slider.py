"""Gradio's before/after slider, with pictures that our own route serves.

Gradio would copy them to its cache and serve them from there to whoever knows the address; a run's
frames are only for those who may see the run (`web.build_frame_route`).
"""

from __future__ import annotations

from abc import ABCMeta
from typing import Any

import gradio as gr
from gradio.component_meta import ComponentMeta
from gradio.components.imageslider import SliderData
from gradio.data_classes import ImageData


class _WithoutStub(ComponentMeta):
    """Gradio writes a .pyi file beside the source of every new component; not beside ours."""

    def __new__(
        mcs, name: str, bases: tuple[type, ...], attributes: dict[str, Any]
    ) -> _WithoutStub:
        return ABCMeta.__new__(mcs, name, bases, attributes)


class PairSlider(gr.ImageSlider, metaclass=_WithoutStub):
    """Takes two addresses of this site, relative to the page."""

    is_template = True
    """It is drawn as its parent is."""

    def postprocess(self, value: Any) -> SliderData | None:
        if value is None:
            return None
        before, after = value
        return SliderData(root=(ImageData(url=before), ImageData(url=after)))
