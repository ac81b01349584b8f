"""Pinned layers: ``--pin LAYER=PLACE``, the part of the chips that a layer has to lie in.

A place is ``chip:N``, ``core:N`` or ``tile:X,Y``, or a range of them: ``core:8-15``,
``tile:0,0-3,1`` (a rectangle). Several are joined by ``+``. Chips count from 0. Cores count from
0 over all chips, tile by tile in rows and core by core, those not available included; on one chip
they are the numbers of ``grid.unavailable_cores``. Tiles count over all chips, as in
``mapping.json``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from nmc.ir.diagnostic import DiagnosticSink, ExitCode

KINDS = ("chip", "core", "tile")
"""What a place counts."""

GRAMMAR = "chip:N, core:N, tile:X,Y, a range of them (core:8-15, tile:0,0-3,1), or several joined by +"
"""What a place may be, in words."""


@dataclass(frozen=True)
class Span:
    """A range of chips, cores or tiles, both ends included.

    Attributes:
        kind: of `KINDS`.
        low, high: (number,), or (x, y) of tiles.
    """

    kind: str
    low: tuple[int, ...]
    high: tuple[int, ...]

    def __str__(self) -> str:
        first, last = (",".join(map(str, end)) for end in (self.low, self.high))
        return f"{self.kind}:{first}" + (f"-{last}" if first != last else "")


@dataclass(frozen=True)
class Pin:
    """A layer, and the spans whose union it has to lie in."""

    layer: str
    spans: tuple[Span, ...]

    @property
    def place(self) -> str:
        """The place as it is written."""
        return "+".join(map(str, self.spans))

    def __str__(self) -> str:
        return f"{self.layer}={self.place}"


@dataclass(frozen=True)
class Pins:
    """The pins of a compile."""

    entries: tuple[Pin, ...] = ()

    def __str__(self) -> str:
        return ";".join(map(str, self.entries)) or "none"

    def __bool__(self) -> bool:
        return bool(self.entries)

    @classmethod
    def of(cls, places: Mapping[str, str]) -> Pins:
        """Read places by layer.

        Raises:
            NmcError: ``pin-syntax`` (exit 2), for every place that cannot be read.
        """
        sink = DiagnosticSink()
        entries = tuple(Pin(layer, _spans(layer, text, sink)) for layer, text in places.items())
        sink.raise_errors(ExitCode.USAGE)
        return cls(entries)


NO_PINS = Pins()
"""Every layer may lie anywhere."""


def _spans(layer: str, text: str, sink: DiagnosticSink) -> tuple[Span, ...]:
    spans = []
    for part in text.split("+"):
        found = _span(part.strip())
        if isinstance(found, str):
            sink.error("pin-syntax", f"pin '{layer}={text}': {found}", help=f"a place is {GRAMMAR}")
        else:
            spans.append(found)
    return tuple(spans)


def _span(text: str) -> Span | str:
    """A span, or what is wrong with its text."""
    kind, colon, numbers = text.partition(":")
    if not colon or kind not in KINDS:
        close = difflib.get_close_matches(kind, KINDS, 1)
        near = f"; did you mean '{close[0]}:'?" if close else ""
        return f"'{text}' names no place{near}"
    one = r"\d{1,9},\d{1,9}" if kind == "tile" else r"\d{1,9}"
    match = re.fullmatch(rf"({one})(?:-({one}))?", numbers, re.ASCII)
    if match is None:
        return f"'{numbers}' is no number of a {kind}, like {'2,1' if kind == 'tile' else '3'}"
    low = tuple(int(number) for number in match[1].split(","))
    high = tuple(int(number) for number in (match[2] or match[1]).split(","))
    if any(a > b for a, b in zip(low, high, strict=True)):
        return f"the range '{numbers}' ends before it begins"
    return Span(kind, low, high)
