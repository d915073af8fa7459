"""What was found of one claim."""

from __future__ import annotations

from dataclasses import dataclass

from webui.core.text import Text
from webui.service.claims.verdicts import VERDICTS, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Computed from figures; the sentence says which."""

    verdict: Verdict
    on: Text | None = None
    """What it depends on, where that is the verdict."""
    estimate: Text | None = None
    """Our estimate, shortly; None where there is nothing to estimate."""
    measured: Text | None = None
    """Our measurement, shortly; None where there is none."""
    receipts: tuple[str, ...] = ()
    """Of the runs that the measurement comes from."""
    sentence: Text

    @property
    def shown(self) -> Text:
        """The verdict in words, with what it depends on."""
        name = VERDICTS[self.verdict]
        if self.on is None:
            return name
        return Text(f"{name.en}: {self.on.en}", f"{name.zh}：{self.on.zh}")
