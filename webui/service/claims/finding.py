"""What was found of one claim."""

from __future__ import annotations

from dataclasses import dataclass

from webui.core.text import Text
from webui.service.claims.verdicts import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Computed from figures; the sentence says which."""

    verdict: Verdict
    estimate: Text | None = None
    """Our estimate, shortly; None where there is nothing to estimate."""
    measured: Text | None = None
    """Our measurement, shortly; None where there is none."""
    receipts: tuple[str, ...] = ()
    """Of the runs that the measurement comes from."""
    sentence: Text
