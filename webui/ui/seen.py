"""Whether somebody looks at a tab: told with each question of its timer."""

from __future__ import annotations

OPEN, HIDDEN = "open", "hidden"


def where_seen(elem_id: str) -> str:
    """For a timer's `js=`: puts into its last input whether the tab is looked at.

    `open`; `hidden` while the tab is open and the browser shows something else; else `left`, so
    that a page left alone asks no more: it is tested first, since such a page may be hidden too.

    Args:
        elem_id: of a part of the tab that is always shown in it.
    """
    return (
        "(...values) => [...values.slice(0, -1), "
        f"!document.querySelector('#{elem_id}')?.offsetParent ? 'left' "
        f": document.hidden ? '{HIDDEN}' : '{OPEN}']"
    )
