"""Inline SVG: pieces and charts. All text is escaped; colours work on light and dark ground."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

STYLE = (
    "svg.nmc{font:12px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;--ink:#1f2933;--soft:#6b7785;"
    "--line:#d5dbe1;--empty:#eef1f4;--accent:#2f6fb3}"
    "@media(prefers-color-scheme:dark){svg.nmc{--ink:#e4e8ec;--soft:#98a3af;--line:#3a444e;--empty:#252c33;"
    "--accent:#6aa5e3}}"
    "svg.nmc text{fill:var(--ink)}svg.nmc .soft{fill:var(--soft)}svg.nmc .line{stroke:var(--line);fill:none}"
    "svg.nmc .empty{fill:var(--empty)}svg.nmc .accent{fill:var(--accent)}"
    "svg.nmc .curve{stroke:var(--accent);stroke-width:2;fill:none}"
)
"""Carried by every picture, so that it can stand alone."""

DASH = "–"


def text_of(value: object) -> str:
    """Any value as escaped text without control characters."""
    plain = "".join(c if c.isprintable() else "�" for c in str(value))
    return html.escape(plain, quote=True)


def number_of(value: object) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def short(value: object) -> str:
    """A number with three digits and a thousands prefix: ``1.23 M``."""
    number = number_of(value)
    if number is None:
        return DASH
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= factor * 0.9995:
            return f"{number / factor:.3g} {prefix}"
    return f"{number:.3g}"


def energy_text(nanojoule: object) -> str:
    """An energy given in nJ, in the unit that suits it."""
    number = number_of(nanojoule)
    if number is None:
        return DASH
    for factor, unit in ((1e9, "J"), (1e6, "mJ"), (1e3, "µJ"), (1.0, "nJ")):
        if abs(number) >= factor * 0.9995:
            return f"{number / factor:.3g} {unit}"
    return f"{1000 * number:.3g} pJ" if number else "0 nJ"


def percent(value: object, digits: int = 2) -> str:
    """A fraction as per cent."""
    number = number_of(value)
    return DASH if number is None else f"{100 * number:.{digits}f} %"


def colour(index: int) -> str:
    """Neighbouring indices get colours that are far apart: the golden angle around the hues."""
    hue = (205 + 137.508 * index) % 360
    return f"hsl({hue:.0f} {(52, 40, 46)[index % 3]}% {(54, 64, 45)[index // 3 % 3]}%)"


def heat(share: float) -> str:
    """From pale to strong as a share goes from 0 to 1."""
    share = min(max(share, 0.0), 1.0)
    return f"hsl({48 - 40 * share:.0f} {55 + 30 * share:.0f}% {78 - 34 * share:.0f}%)"


def document(width: float, height: float, body: str, label: str) -> str:
    """A picture of its own with a label for those who cannot see it."""
    return (
        f'<svg class="nmc" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{text_of(label)}">'
        f"<style>{STYLE}</style>{body}</svg>"
    )


def label(x: float, y: float, content: object, *, anchor: str = "start", soft: bool = False) -> str:
    """Text at a point."""
    kind = ' class="soft"' if soft else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{text_of(content)}</text>'


def box(x: float, y: float, width: float, height: float, fill: str, title: object = "", radius: float = 2) -> str:
    """A filled rectangle with a hover title; ``fill`` is a colour, or a class after a dot."""
    paint = f'class="{fill[1:]}"' if fill.startswith(".") else f'fill="{fill}"'
    inner = f"<title>{text_of(title)}</title>" if title else ""
    return (
        f'<rect x="{x:.2f}" y="{y:.2f}" width="{max(width, 0):.2f}" height="{max(height, 0):.2f}" '
        f'rx="{radius}" {paint}>{inner}</rect>'
    )


def bars(rows: Sequence[tuple[str, float | None, str]], name: str, *, top: float | None = None) -> str:
    """Horizontal bars: (label, value, text behind the bar); ``top`` is the full width."""
    left, width, pitch = 130.0, 360.0, 26.0
    most = top or max((value for _, value, _ in rows if value is not None), default=1.0) or 1.0
    body = []
    for number, (word, value, text) in enumerate(rows):
        y = 6 + number * pitch
        body.append(label(left - 10, y + 13, word[:22], anchor="end"))
        body.append(box(left, y, width, 18, ".empty"))
        length = width * min(max(value or 0.0, 0.0) / most, 1.0)
        body.append(box(left, y, length, 18, ".accent", f"{word}: {text}"))
        body.append(label(left + width + 10, y + 13, text))
    return document(left + width + 200, 12 + pitch * len(rows), "".join(body), name)


def stacked(rows: Sequence[tuple[str, Mapping[str, float]]], name: str) -> str:
    """Horizontal stacked bars of energies (nJ), one per row, with a legend; parts in order of first use."""
    left, width, pitch = 150.0, 420.0, 30.0
    parts = list(dict.fromkeys(part for _, split in rows for part in split))
    most = max((sum(split.values()) for _, split in rows), default=0.0) or 1.0
    body, x = [], left
    for index, part in enumerate(parts):
        body.append(box(x, 4, 12, 12, colour(index)) + label(x + 18, 14, part, soft=True))
        x += 40 + 7.5 * len(part)
    for number, (word, split) in enumerate(rows):
        y, x, total = 28 + number * pitch, left, sum(split.values())
        body.append(label(left - 10, y + 15, word[:24], anchor="end"))
        for index, part in enumerate(parts):
            value = split.get(part, 0.0)
            length = width * value / most
            share = percent(value / total if total else 0.0, 1)
            body.append(box(x, y, length, 20, colour(index), f"{part}: {energy_text(value)} ({share})", 0))
            x += length
        body.append(label(x + 10, y + 15, energy_text(total)))
    return document(left + width + 110, 36 + pitch * len(rows), "".join(body), name)


def curve(
    points: Sequence[tuple[float, float]],
    name: str,
    axis: str,
    reference: tuple[str, float] | None,
    *,
    errors: bool = False,
) -> str:
    """A line from (x, y) points; ``reference`` is a level to reach.

    Args:
        points: y is a share, as per cent below 100 %; or an error, from 0 up.
        name: of the picture.
        axis: what x is.
        reference: a name and a level.
        errors: whether y is an error.
    """
    left, right, top, bottom, width, height = 58.0, 120.0, 12.0, 40.0, 560.0, 250.0
    levels = [y for _, y in points] + ([reference[1]] if reference else [])
    low, high = (0.0, max(levels) or 1.0) if errors else (_floor(min(levels)), 1.0)
    x_low, x_high = points[0][0], max(points[-1][0], points[0][0] + 1)
    inner = width - left - right

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low)
        return left + inner * across, top + (height - top - bottom) * (1 - (y - low) / (high - low))

    body = []
    for tick in range(6):
        y = low + (high - low) * tick / 5
        _, py = at(x_low, y)
        body.append(f'<line class="line" x1="{left}" x2="{width - right}" y1="{py:.1f}" y2="{py:.1f}"/>')
        body.append(label(left - 8, py + 4, f"{y:.3g}" if errors else f"{100 * y:.4g} %", anchor="end", soft=True))
    if reference is not None:
        _, py = at(x_low, reference[1])
        dash = 'stroke-dasharray="5 4"'
        body.append(f'<line class="line" {dash} x1="{left}" x2="{width - right}" y1="{py:.1f}" y2="{py:.1f}"/>')
        body.append(label(width - right + 6, py + 4, reference[0], soft=True))
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (at(x, y) for x, y in points))
    body.append(f'<polyline class="curve" points="{path}"/>')
    for x, y in points:
        px, py = at(x, y)
        title = text_of(f"{axis} {x:g}: {f'{y:.4g}' if errors else percent(y)}")
        body.append(f'<circle class="accent" cx="{px:.1f}" cy="{py:.1f}" r="2.6"><title>{title}</title></circle>')
    for x in sorted({x_low, points[-1][0], *(points[len(points) * k // 4][0] for k in range(1, 4))}):
        body.append(label(at(x, low)[0], height - bottom + 18, f"{x:g}", anchor="middle", soft=True))
    body.append(label(left + inner / 2, height - 6, axis, anchor="middle", soft=True))
    return document(width, height, "".join(body), name)


def _floor(share: float) -> float:
    """Where an axis of shares begins: a round number below the least."""
    low = min(share, 0.99)
    return math.floor(low * 10) / 10 if low < 0.9 else math.floor(low * 100) / 100
