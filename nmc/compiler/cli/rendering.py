"""Diagnostics and tables as text. Nothing that a file names can move the cursor."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from nmc.compiler.explain import catalogue
from nmc.ir.diagnostic import Diagnostic

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from nmc.runtime.tables import Shown

STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}

UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that are shown as escapes: controls, bidirectional marks, surrogates."""


def printable(text: object) -> str:
    """The text with every control character as a hexadecimal escape."""
    return "".join(_escaped(c) if unicodedata.category(c) in UNPRINTABLE else c for c in str(text))


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def diagnostic_text(diagnostic: Diagnostic) -> Text:
    """A diagnostic: what, where, help."""
    from rich.text import Text

    text = Text()
    text.append(f"{diagnostic.severity}[{diagnostic.slug}]", STYLES.get(diagnostic.severity, "bold"))
    text.append(f": {printable(diagnostic.message)}", "bold")
    if diagnostic.origin is not None:
        origin = diagnostic.origin
        text.append("\n  --> ", "blue")
        text.append(printable(f"{origin.op} '{origin.node}'" if origin.op else f"'{origin.node}'"))
        if origin.output and origin.output != origin.node:
            text.append(printable(f", output '{origin.output}'"))
    if diagnostic.help:
        text.append("\n  = help: ", "blue")
        text.append(printable(diagnostic.help))
    return text


PLAIN = frozenset({"usage", "bad-option", "not-available-yet", "slug-unknown", "interrupted"})
"""Slugs whose message says all that there is to say."""


def explain_hint(diagnostics: Iterable[Diagnostic]) -> str:
    """How many errors there are and where to read more; empty where one line has said it all."""
    errors = [d for d in diagnostics if d.severity == "error"]
    known = sorted({d.slug for d in errors if d.slug in catalogue()} - PLAIN)
    if not known:
        return ""
    count = f"{len(errors)} errors; " if len(errors) > 1 else ""
    return f"{count}`nmc explain {known[0]}` says more"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> Table:
    """A plain table; columns whose name begins with ``#`` are numbers, set to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        box=box.SIMPLE_HEAD,
        # A plain string would be read as markup, and titles name what models name.
        title=Text(printable(title), style="bold") if title else None,
        title_justify="left",
        pad_edge=False,
        show_edge=False,
    )
    for column in columns:
        number = column.startswith("#")
        made.add_column(column.lstrip("#"), justify="right" if number else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row))
    return made


def shown(result: Shown) -> list[Table]:
    """A result's own tables."""
    return [table(made.columns, made.rows, title=made.title) for made in result.tables()]


def count(value: float | int | None) -> str:
    """A number with thousands separated; ``-`` where there is none."""
    if value is None:
        return "-"
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3g}"


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as per cent; ``-`` where there is none."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def seconds(value: float | None) -> str:
    """A duration in the unit that suits it."""
    if value is None:
        return "-"
    if value >= 1:
        return f"{value:.1f} s"
    return f"{1e3 * value:.3g} ms" if value >= 1e-3 else f"{1e6 * value:.3g} µs"


def energy(nanojoule: float | None) -> str:
    """An energy in the unit that suits it."""
    if nanojoule is None:
        return "-"
    for limit, factor, unit in ((1e3, 1.0, "nJ"), (1e6, 1e3, "µJ"), (1e9, 1e6, "mJ")):
        if abs(nanojoule) < limit:
            return f"{nanojoule / factor:.3g} {unit}"
    return f"{nanojoule / 1e9:.3g} J"
