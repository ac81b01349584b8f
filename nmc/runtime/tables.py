"""Results as tables: text on a terminal, HTML in a notebook."""

from __future__ import annotations

import html
from abc import abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True)
class TextTable:
    """Cells of text.

    Attributes:
        title: a line above it; empty for none.
        columns: headings; one that begins with ``#`` is a number, set to the right.
        rows: one cell per column each.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def text(self) -> str:
        """In a fixed-width font."""
        heads = [column.lstrip("#") for column in self.columns]
        widths = [max(len(head), *(len(row[i]) for row in self.rows), 0) for i, head in enumerate(heads)]

        def line(cells: tuple[str, ...] | list[str]) -> str:
            pairs = zip(self.columns, cells, widths, strict=True)
            return "  ".join(c.rjust(w) if name.startswith("#") else c.ljust(w) for name, c, w in pairs).rstrip()

        body = [line(heads), "  ".join("-" * width for width in widths), *(line(row) for row in self.rows)]
        return "\n".join([self.title, *body] if self.title else body)

    @property
    def html(self) -> str:
        """An HTML table; every cell is escaped."""
        styles = ["text-align:right" if c.startswith("#") else "text-align:left" for c in self.columns]

        def cells(tag: str, values: tuple[str, ...]) -> str:
            pairs = zip(values, styles, strict=True)
            return "".join(f'<{tag} style="{style}">{html.escape(value)}</{tag}>' for value, style in pairs)

        head = cells("th", tuple(column.lstrip("#") for column in self.columns))
        rows = "".join(f"<tr>{cells('td', row)}</tr>" for row in self.rows)
        caption = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


class Shown:
    """A result that prints as tables and shows as HTML in a notebook."""

    @abstractmethod
    def tables(self) -> tuple[TextTable, ...]:
        """What it shows."""

    def __str__(self) -> str:
        return "\n\n".join(table.text for table in self.tables())

    def _repr_html_(self) -> str:
        return "".join(table.html for table in self.tables())


def share(value: float | None) -> str:
    """A fraction as per cent with two digits; ``-`` where there is none."""
    return "-" if value is None else f"{100 * value:.2f} %"
