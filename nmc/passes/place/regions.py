"""The cores that a pin means."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from nmc.hardware.target import Grid, Target
from nmc.ir.diagnostic import DiagnosticSink, ExitCode
from nmc.ir.mapping import HOST, Partitioned, Place
from nmc.passes.pins import Pin, Pins, Span

Sites = frozenset[int]
"""Numbers of cores that may be used, as `nmc.passes.place.sites.sites` counts them."""

NAMED = 8
"""Layers that are listed at most."""


def pinned_sites(
    pins: Pins, partitioned: Partitioned, target: Target, chips: int, free: Sequence[Place]
) -> Mapping[str, Sites]:
    """By layer, the cores that it may lie on.

    Args:
        pins: of the user.
        partitioned: names the layers.
        target: has the grid.
        chips: that are used.
        free: cores that may be used.

    Raises:
        NmcError: unknown layers, layers of the host, places outside the grid and cores that
            are not available: all at once (exit 2).
    """
    sink = DiagnosticSink()
    regions = {}
    for pin in pins.entries:
        if not _on_chip(pin, partitioned, sink) or not _on_grid(pin, target, chips, sink):
            continue
        inside = (number for number, place in enumerate(free) if holds(pin, place, target.grid))
        regions[pin.layer] = frozenset(inside)
        if not regions[pin.layer]:
            sink.error(
                "pin-unavailable",
                f"pin '{pin}' names no core of '{target.name}' that may be used",
                origin=partitioned.network.by_name[pin.layer].origin,
                help=f"pin the layer elsewhere: {_unavailable(target.grid)}",
            )
    sink.raise_errors(ExitCode.USAGE)
    return regions


def holds(pin: Pin, place: Place, grid: Grid) -> bool:
    """Whether a core belongs to the place of a pin."""
    at = {"chip": (place.chip,), "core": (core_number(place, grid),), "tile": (place.x, place.y)}
    return any(
        all(low <= n <= high for low, n, high in zip(span.low, at[span.kind], span.high, strict=True))
        for span in pin.spans
    )


def core_number(place: Place, grid: Grid) -> int:
    """The number of a core over all chips, those not available counted."""
    column = place.x - place.chip * grid.tiles_x
    tile = place.chip * grid.tiles_x * grid.tiles_y + place.y * grid.tiles_x + column
    return tile * grid.cores_per_tile + place.core


def _on_chip(pin: Pin, partitioned: Partitioned, sink: DiagnosticSink) -> bool:
    """Whether the layer exists and needs cores."""
    hosted = {piece.population for c in partitioned.clusters if c.id == HOST for piece in c.slices}
    layers = [p.name for p in partitioned.network.populations if p.name not in hosted]
    if pin.layer in layers:
        return True
    if pin.layer in hosted:
        origin = partitioned.network.by_name[pin.layer].origin
        text = f"pin '{pin}': the host computes '{pin.layer}', it lies on no core"
        sink.error("pin-on-host", text, origin=origin, help="leave out this pin")
        return False
    inside = [p.target for p in partitioned.network.projections if p.origin.node == pin.layer and p.target in layers]
    close = difflib.get_close_matches(pin.layer, layers, 1)
    more = f" and {len(layers) - NAMED} more" if len(layers) > NAMED else ""
    hint = f"did you mean '{close[0]}'?" if close else f"layers: {', '.join(layers[:NAMED])}{more}"
    if inside:
        hint = f"'{pin.layer}' is computed by the layer '{inside[0]}': pin that"
    sink.error("pin-unknown-layer", f"pin '{pin}': there is no layer '{pin.layer}'", help=hint)
    return False


def _on_grid(pin: Pin, target: Target, chips: int, sink: DiagnosticSink) -> bool:
    """Whether all chips, cores and tiles of the pin exist."""
    grid = target.grid
    cores = grid.tiles_x * grid.tiles_y * grid.cores_per_tile
    ends = {"chip": (chips,), "core": (chips * cores,), "tile": (chips * grid.tiles_x, grid.tiles_y)}
    inside = True
    for span in pin.spans:
        if all(n < end for n, end in zip(span.high, ends[span.kind], strict=True)):
            continue
        inside = False
        last = ",".join(str(end - 1) for end in ends[span.kind])
        first = "0,0" if span.kind == "tile" else "0"
        there = f"only {span.kind} {last}" if first == last else f"{span.kind}s {first} to {last}"
        sink.error(
            "pin-outside-grid",
            f"pin '{pin}': {span} leaves the grid; {chips} chip{'s' if chips > 1 else ''} of '{target.name}' "
            f"{'have' if chips > 1 else 'has'} {there}",
            help=_reach(span, grid, cores),
        )
    return inside


def _reach(span: Span, grid: Grid, cores: int) -> str:
    """How many chips would have the place, if chips can be joined so that they do."""
    per_chip = {"chip": 1, "core": cores, "tile": grid.tiles_x}[span.kind]
    wanted = span.high[0] // per_chip + 1
    below = span.kind == "tile" and span.high[1] >= grid.tiles_y
    if below or wanted > grid.chips_max:
        return "pin the layer to a place inside the grid"
    return f"pin the layer to a place inside the grid, or give --chips {wanted}"


def _unavailable(grid: Grid) -> str:
    return f"cores not available on each chip: {', '.join(map(str, sorted(set(grid.unavailable_cores))))}"
