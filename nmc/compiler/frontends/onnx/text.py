"""Strings of a model are data: nothing in them may act on a terminal or flood it."""

from __future__ import annotations


def escaped(text: str, limit: int = 200) -> str:
    """``text`` on one line, control characters as escapes, shortened in the middle to ``limit``.

    Args:
        text: anything that a file may hold.
        limit: characters of the result at the most.
    """
    clean = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
    if len(clean) <= limit:
        return clean
    half = (limit - 3) // 2
    return f"{clean[:half]}...{clean[-half:]}"


def listed(names: list[str] | tuple[str, ...], most: int = 5) -> str:
    """``a, b, c and 4 more``."""
    shown = ", ".join(escaped(name, 80) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
