"""Who may do what: the step before every request that reads or changes something of somebody."""

from __future__ import annotations

from dataclasses import dataclass

LOCAL = "local"
"""Everybody who reaches an app that is bound to loopback: the user of this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How the app is reached, and who owns the machine.

    A visitor is known by a string: `local` on loopback, `user:NAME` when signed in, else the
    random id of a cookie or of an API client's session.
    """

    loopback: bool = True
    """The app answers this machine only, so whoever asks is its user."""
    owner_user: str = ""
    """Name that the owner signs in with; empty when there is no sign-in."""

    def is_owner(self, visitor: str) -> bool:
        """Whether the visitor may end workers, start downloads and edit the configuration."""
        if self.loopback and visitor == LOCAL:
            return True
        return bool(self.owner_user) and visitor == f"user:{self.owner_user}"
