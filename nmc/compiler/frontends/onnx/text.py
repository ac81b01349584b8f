"""Strings of a model are data: nothing in them may act on a terminal or flood it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nmc.compiler.frontends.onnx.limits import PROBLEM_LIMIT, TEXT_LIMIT
from nmc.ir.diagnostic import Diagnostic


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


def shortened(diagnostics: Sequence[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Diagnostics whose texts keep `TEXT_LIMIT`; behind `PROBLEM_LIMIT` of them only their number."""
    kept = [_short(item) for item in diagnostics[:PROBLEM_LIMIT]]
    more = diagnostics[PROBLEM_LIMIT:]
    if more:
        severity = "error" if any(item.severity == "error" for item in more) else "note"
        text = f"{len(more)} more problems of the kinds {listed(sorted({item.slug for item in more}))}"
        kept.append(Diagnostic("more-problems", text, severity, help="mend the others first"))
    return tuple(kept)


def _short(item: Diagnostic) -> Diagnostic:
    origin = item.origin
    if origin is not None:
        origin = replace(origin, node=escaped(origin.node), op=escaped(origin.op), output=escaped(origin.output))
    return replace(item, message=escaped(item.message, TEXT_LIMIT), help=escaped(item.help, TEXT_LIMIT), origin=origin)
