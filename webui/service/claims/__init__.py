"""The guides' claims, checked: each with our estimate, our measurement, and a verdict.

The claims are data (`webui/catalogue/guides/`); the verdicts are computed from this version's
estimates and from the receipts that ship with it, each time anew.
"""

from webui.service.claims.checked import (
    KINDS,
    BackgroundCheck,
    Checked,
    by_guide,
    check_claims,
    check_shipped,
    claims_table,
    tally,
)
from webui.service.claims.verdicts import VERDICTS, Verdict

__all__ = [
    "KINDS",
    "VERDICTS",
    "BackgroundCheck",
    "Checked",
    "Verdict",
    "by_guide",
    "check_claims",
    "check_shipped",
    "claims_table",
    "tally",
]
