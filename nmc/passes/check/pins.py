"""Whether every pinned layer lies where the user wants it."""

from __future__ import annotations

from nmc.hardware.target import Grid
from nmc.ir.diagnostic import Diagnostic, DiagnosticSink
from nmc.ir.mapping import Place, Placed
from nmc.passes.pins import Pin, Pins, Span


def pin_diagnostics(placed: Placed, pins: Pins, grid: Grid) -> tuple[Diagnostic, ...]:
    """One error for each pin that is not kept, with the neurons that lie elsewhere."""
    sink = DiagnosticSink()
    for pin in pins.entries:
        population = placed.network.by_name.get(pin.layer)
        if population is None:
            sink.error("mapping-pin", f"the layer '{pin.layer}' is pinned to {pin.place} and does not exist")
            continue
        outside, example = 0, ""
        for cluster in placed.clusters:
            neurons = sum(piece.neurons for piece in cluster.slices if piece.population == pin.layer)
            place = placed.places.get(cluster.id)
            if neurons and (place is None or not _holds(pin, place, grid)):
                outside += neurons
                example = f"core {cluster.id} at " + ("no place" if place is None else _words(place))
        if outside:
            sink.error(
                "mapping-pin",
                f"'{pin.layer}' is pinned to {pin.place}; {outside} of its {population.neurons} neurons lie elsewhere, "
                f"some on {example}",
                origin=population.origin,
            )
    return tuple(sink.items)


def _holds(pin: Pin, place: Place, grid: Grid) -> bool:
    return any(_within(span, place, grid) for span in pin.spans)


def _within(span: Span, place: Place, grid: Grid) -> bool:
    if span.kind == "chip":
        at: tuple[int, ...] = (place.chip,)
    elif span.kind == "tile":
        at = (place.x, place.y)
    else:
        tile = (place.chip * grid.tiles_y + place.y) * grid.tiles_x + place.x - place.chip * grid.tiles_x
        at = (tile * grid.cores_per_tile + place.core,)
    return all(low <= n <= high for low, n, high in zip(span.low, at, span.high, strict=True))


def _words(place: Place) -> str:
    return f"chip {place.chip} tile ({place.x}, {place.y}) core {place.core}"
