"""Packets against time as one SVG: a panel per network, a dot per method."""

from __future__ import annotations

from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT, LEFT, TOP, RIGHT = 320, 240, 60, 30, 180
"""Of a panel's axes, the margins, and the room for names (pixels)."""

COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000")


def scatter(cases: list[dict]) -> str:
    """The drawing of what `mapping.py` writes as JSON: cases with rows of method, packets and cpu."""
    panels = [_panel(case, number) for number, case in enumerate(cases)]
    height = len(cases) * (HEIGHT + 2 * TOP)
    size = f'width="{LEFT + WIDTH + RIGHT}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    return f"{head}{''.join(panels)}</svg>\n"


def _panel(case: dict, number: int) -> str:
    rows = [row for row in case["rows"] if row["cores"] is not None and row["packets"] > 0]
    top = number * (HEIGHT + 2 * TOP) + TOP
    title = f'<text x="{LEFT}" y="{top - 10}">{escape(case["case"])}: packets against CPU seconds</text>'
    frame = f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#888"/>'
    if not rows:
        return title + frame
    x, x_ticks = _axis([max(row["cpu"], 1e-3) for row in rows], WIDTH)
    y, y_ticks = _axis([row["packets"] for row in rows], HEIGHT)
    parts = [title, frame]
    parts += [
        f'<text x="{LEFT + at:.1f}" y="{top + HEIGHT + 14}" text-anchor="middle">{text}</text>' for at, text in x_ticks
    ]
    parts += [
        f'<text x="{LEFT - 4}" y="{top + HEIGHT - at + 4:.1f}" text-anchor="end">{text}</text>' for at, text in y_ticks
    ]
    for index, (row, right, up) in enumerate(zip(rows, x, y, strict=True)):
        color = COLORS[index % len(COLORS)]
        parts.append(f'<circle cx="{LEFT + right:.1f}" cy="{top + HEIGHT - up:.1f}" r="4" fill="{color}"/>')
        parts.append(
            f'<text x="{LEFT + WIDTH + 10}" y="{top + 12 + 16 * index}" fill="{color}">{escape(row["method"])}</text>'
        )
    return "".join(parts)


def _axis(values: list[float], length: int) -> tuple[list[float], list[tuple[float, str]]]:
    """Places of values on a logarithmic axis between powers of ten, and its labels."""
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    high = max(high, low + 1)
    step = length / (high - low)
    labels = [((power - low) * step, f"1e{power}") for power in range(low, high + 1)]
    return [(log10(value) - low) * step for value in values], labels
