"""What every tab is given: the studio, who asks in which language, and the labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import gradio as gr

from webui.core.card import Card
from webui.core.clip import ClipCard
from webui.core.documents import DocumentCard
from webui.core.job import JobView
from webui.core.text import Text
from webui.core.upscale import UpscaleCard
from webui.service.access import Access
from webui.ui import identity, language

if TYPE_CHECKING:
    from webui.service import RunSummary, Studio
    from webui.storage import Limits

LIVE_RUNS = 30
"""How many jobs under way are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One event: who asks, and in which language the answer goes."""

    visitor: str
    language: str
    owner: bool
    """Whether the visitor owns the machine."""

    def say(self, text: Text, **values: object) -> str:
        sentence = text.in_language(self.language)
        return sentence.format(**values) if values else sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The studio behind the page."""

    studio: Studio
    access: Access
    labels: language.Labels = field(default_factory=language.Labels)

    def visit(self, request: gr.Request) -> Visit:
        """Who sent this event.

        Raises:
            NotAllowed: nobody that we know.
        """
        visitor = identity.visitor_of_event(request, self.access)
        return Visit(
            visitor=visitor,
            language=self.language(request.headers),
            owner=self.access.is_owner(visitor),
        )

    def language(self, headers: Mapping[str, str]) -> str:
        """The language of whoever sent these headers."""
        return language.language_of(headers, self.studio.config.language)

    def models(self) -> dict[str, ClipCard]:
        """Models that this page offers, by name."""
        return {model.name: model for model in self.studio.models() if isinstance(model, ClipCard)}

    def readers(self) -> dict[str, DocumentCard]:
        """Models that read documents, by name; what works at once is the first."""
        found = [model for model in self.studio.models() if isinstance(model, DocumentCard)]
        ready = sorted(found, key=lambda model: not model.embedded)
        return {model.name: model for model in ready}

    def card(self, name: str) -> Card:
        """The card that a plan names, the detected one when the catalogue has none such."""
        return next((card for card in self.studio.cards() if card.name == name), self.detected())

    def detected(self) -> Card:
        return self.studio.detected()

    def upscalers(self) -> dict[str, UpscaleCard]:
        """Models that upscale, by name; what works at once is the first."""
        found = [model for model in self.studio.models() if isinstance(model, UpscaleCard)]
        ready = sorted(found, key=lambda model: not model.embedded)
        return {model.name: model for model in ready}

    def limits(self, visit: Visit) -> Limits | None:
        """What a visitor may ask for; None for the owner."""
        return None if visit.owner else self.studio.config.limits

    def live_jobs(self, visitor: str, task: str = "") -> list[JobView]:
        """The visitor's jobs that wait or run, the oldest first; those of a task, or all."""
        jobs = self.studio.live(visitor, LIVE_RUNS, task)
        return [job for job in jobs if not job.state.final]

    def finished_runs(self, visitor: str, limit: int, task: str = "") -> list[RunSummary]:
        """The visitor's runs that have ended, the newest first; those of a task, or all."""
        return self.studio.runs(visitor, limit, task, ended=True)
