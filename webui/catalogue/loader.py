"""Reads the model cards: `models/*.yaml`, with the component configurations they name.

A file is named as its model, or `MODEL.TASK.yaml` for one more task of a model. Adding a model of a
known family takes one YAML file (and the JSON files of components that are not there yet); nothing
here changes. A new family is an entry of `families.py`.
"""

from __future__ import annotations

import logging
import os
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from webui.catalogue.families import COMPONENT_OF, FAMILIES
from webui.catalogue.kinds import KINDS, check_clip, keys_of
from webui.catalogue.own import ENVIRONMENT, own_cards
from webui.catalogue.reading import (
    FOLDER,
    read_configs,
    read_texts,
    read_yaml,
    require,
    require_whole,
)
from webui.core.clip import ClipCard
from webui.core.errors import BadInput
from webui.core.fields import shown
from webui.core.mapping import check_keys
from webui.core.model import ModelCard
from webui.core.parse import TASKS
from webui.core.setting import Values
from webui.core.settings import SETTINGS, check_settings
from webui.core.text import Text

Kind = TypeVar("Kind", bound=ModelCard)


@cache
def load_cards() -> dict[tuple[str, str], ModelCard]:
    """All model cards by name and task; embedded models first, a model's first task first.

    A card of the owner's that is wrong is left out, and the log says why.

    Raises:
        BadInput: a file of the catalogue is wrong; the message names it.
    """
    paths = sorted((FOLDER / "models").glob("*.yaml"), key=lambda path: path.stem)
    cards = [read_model(path) for path in paths]
    cards += _read_own({card.name for card in cards})
    cards.sort(key=lambda card: not card.embedded)
    return {(card.name, card.task): card for card in cards}


def use_models(folder: Path) -> None:
    """Reads the owner's own cards from a folder, here and in the processes that are started."""
    os.environ[ENVIRONMENT] = str(folder)
    load_cards.cache_clear()
    load_models.cache_clear()


def _read_own(taken: set[str]) -> list[ModelCard]:
    cards = []
    for path in own_cards():
        try:
            card = read_model(path)
            require(card.name not in taken, path.name, "name", f"{card.name} ships with the studio")
        except Exception as error:  # any shape of YAML may be in it; the app starts all the same
            why = f"{error.message} {error.hint}" if isinstance(error, BadInput) else repr(error)
            logging.getLogger(__name__).warning("%s is left out: %s", path.name, why)
        else:
            cards.append(card)
    return cards


@cache
def load_models() -> dict[str, ModelCard]:
    """Each model's card by its name: that of its first task."""
    models: dict[str, ModelCard] = {}
    for (name, _), card in load_cards().items():
        models.setdefault(name, card)
    return models


def models_of(kind: type[Kind]) -> dict[str, Kind]:
    """The models with cards of one kind, by name."""
    return {card.name: card for card in load_cards().values() if isinstance(card, kind)}


def find_model(name: str, task: str | None = None) -> ModelCard:
    """The model card of that name.

    Args:
        name: the catalogue's.
        task: None for the model's first.

    Raises:
        BadInput: there is none, or it cannot do the task; the hint has the nearest names.
    """
    models = load_models()
    if name not in models:
        near = get_close_matches(name, models, 2, 0.4)
        names = ", ".join(models)
        raise BadInput(
            "model",
            Text(f"There is no model '{shown(name)}'.", f"没有名为“{shown(name)}”的模型。"),
            Text(
                (f"Did you mean {' or '.join(near)}? " if near else "") + f"Models: {names}.",
                (f"是否想用 {' 或 '.join(near)}？" if near else "") + f"可用的模型：{names}。",
            ),
        )
    if task is None:
        return models[name]
    cards = load_cards()
    if (name, task) not in cards:
        able = ", ".join(other for other, its in cards if its == task)
        raise BadInput(
            "model",
            Text(f"{name} cannot do the task {task}.", f"{name} 不能执行任务 {task}。"),
            Text(f"Models that can: {able}.", f"可以的模型：{able}。"),
        )
    return cards[name, task]


def read_model(path: Path) -> ModelCard:
    """One model card.

    Args:
        path: a YAML file; the file names under `configs` and `preview` are relative to the
            catalogue's folder, those under `configs` also to its own.

    Raises:
        BadInput: unknown or missing key, or a value of the wrong kind.
    """
    where = path.name
    raw = read_yaml(path)
    named = raw.get("family") if isinstance(raw, dict) else None
    families = ", ".join(FAMILIES)
    require(named in FAMILIES, where, "family", f"it is one of {families}")
    family = FAMILIES[str(named)]
    kind = KINDS[family.kind]
    required, optional = keys_of(kind)
    data = dict(check_keys(raw, where=where, required=required, optional=optional))
    for key in ("name", "title", "task", "licence", "hub"):
        require(isinstance(data[key], str), where, key, "it is a text")
    require(data["task"] in TASKS, where, "task", f"it is one of {', '.join(TASKS)}")
    stems = (data["name"], f"{data['name']}.{data['task']}")
    require(path.stem in stems, where, "name", f"it must be the file's name, {path.stem}")
    require_whole(data, ("download_bytes",), where)
    require(isinstance(data["embedded"], bool), where, "embedded", "it is true or false")
    data["about"] = read_texts(data["about"], where, "about")
    available = tuple(
        name for name in family.settings if name not in COMPONENT_OF or name in data["configs"]
    )
    data["settings"] = _settings(data["settings"], available, where)
    own = _values(data.get("setting_values", {}), data["settings"], where)
    data["setting_values"] = {**family.values, **own}
    data["setting_defaults"] = check_settings(
        data.get("setting_defaults", {}), data["settings"], data["setting_values"]
    )
    components = family.components + tuple(
        name for name in family.optional_components if name in data["configs"]
    )
    data["configs"] = read_configs(data["configs"], components, where, path.parent)
    card = kind.card(**kind.read(data, family, where))
    if isinstance(card, ClipCard):
        check_clip(card, where)
    return card


def _values(data: Any, available: tuple[str, ...], where: str) -> Values:
    """For some settings those values that this model knows; its family knows more."""
    named = check_keys(data, where=f"{where}, setting_values", optional=available)
    for name, values in named.items():
        known = SETTINGS[name].choices
        listed = isinstance(values, list) and bool(values) and set(values) <= set(known)
        require(listed, where, f"setting_values.{name}", f"a list of {', '.join(map(str, known))}")
    return {name: tuple(values) for name, values in named.items()}


def _settings(data: Any, available: tuple[str, ...], where: str) -> tuple[str, ...]:
    """`all` of the family, or a list; in the order of `SETTINGS`, which is that of the page."""
    if data == "all":
        return tuple(name for name in SETTINGS if name in available)
    require(isinstance(data, list), where, "settings", "it is `all` or a list of names")
    check_keys(dict.fromkeys(data), where=f"{where}, settings", optional=list(available))
    return tuple(name for name in SETTINGS if name in data)
