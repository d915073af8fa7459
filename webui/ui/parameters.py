"""The parameters of the API's questions: the keys of all requests, read from their classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, get_type_hints

import gradio as gr

from webui.core.clip import PICTURES
from webui.core.parse import KEYS, REQUESTS

FIRST_KEYS = (
    "model",
    "prompt",
    "negative_prompt",
    *PICTURES,
    "frames",
    "height",
    "width",
    "steps",
    "guidance",
    "flow_shift",
    "solver",
    "fps",
    "seed",
    "card",
    "vram_gib",
    "platform",
    "settings",
    "task",
)
"""Clients may give these by position, so their order stays; other keys follow behind."""
OWNER_KEYS = ("input", "data")
"""Keys that may be paths, which only the command line takes: no text of a visitor becomes one."""
_MAPPING = dict[str, Any]
_TYPES: dict[str, Any] = {**dict.fromkeys(PICTURES, _MAPPING), "settings": _MAPPING}
"""What comes over the network in another type than the request has: files, plain JSON."""

_NAMED = inspect.Parameter.KEYWORD_ONLY
_EITHER = inspect.Parameter.POSITIONAL_OR_KEYWORD


def with_request_keys(function: Callable[..., _MAPPING]) -> Callable[..., _MAPPING]:
    """The function with every key of a request as a parameter; those left out are None.

    Args:
        function: takes its own parameters by name, and the request's keys as `**keys`.

    Returns:
        A function whose signature gradio reads: the first keys, the function's own parameters,
        the other keys, and at the end the event's request, which gradio fills in.
    """
    own = [
        parameter.replace(kind=_EITHER)
        for parameter in inspect.signature(function, eval_str=True).parameters.values()
        if parameter.kind == _NAMED
    ]
    events = [parameter for parameter in own if parameter.annotation is gr.Request]
    others = [key for key in KEYS if key not in (*FIRST_KEYS, *OWNER_KEYS)]
    signature = inspect.Signature(
        [
            *_parameters(FIRST_KEYS),
            *(parameter for parameter in own if parameter not in events),
            *_parameters(others),
            *events,
        ],
        return_annotation=_MAPPING,
    )

    def endpoint(*values: Any, **named: Any) -> _MAPPING:
        return function(**signature.bind(*values, **named).arguments)

    annotations = {name: item.annotation for name, item in signature.parameters.items()}
    endpoint.__name__, endpoint.__doc__ = function.__name__, function.__doc__
    endpoint.__annotations__ = {**annotations, "return": _MAPPING}
    endpoint.__signature__ = signature  # type: ignore[attr-defined]
    return endpoint


def _parameters(keys: Iterable[str]) -> list[inspect.Parameter]:
    """Each key may be left out."""
    types = _types()
    return [
        inspect.Parameter(key, _EITHER, default=None, annotation=types[key] | None) for key in keys
    ]


def _types() -> dict[str, Any]:
    """The type of each key; where tasks differ in it, any of theirs."""
    types: dict[str, Any] = {}
    for kind in REQUESTS:
        hints = get_type_hints(kind)
        for key in KEYS:
            if key in hints:
                types[key] = types[key] | hints[key] if key in types else hints[key]
    return types | _TYPES
