"""The mesh with its cores: by layer, or by how full they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nmc.runtime.report.svg import box, colour, document, heat, label, number_of, percent, short

TILE = 44.0
"""Side of a tile."""

GAP = 6.0
"""Between tiles, twice between chips."""

TILES_MAX = 20_000
"""A mesh with more tiles is not drawn."""

LEGEND_MAX = 60


def core_map_svg(report: Mapping[str, Any], *, by: str = "layer") -> str:
    """The mesh of a static report, chip beside chip, as far as cores are used.

    Args:
        report: as `nmc.runtime.report.static.static_report` makes it.
        by: ``layer``: each core in the colours of its layers, split by their neurons; ``use``:
            by the share of the resource that it has least of.

    Returns:
        an SVG document; every core has a hover title.

    Raises:
        ValueError: unknown ``by``.
    """
    if by not in ("layer", "use"):
        raise ValueError(f"cores are drawn by layer or by use, not by {by!r}")
    grid, cores = report["target"]["grid"], report["cores"]
    names = [layer["name"] for layer in report["layers"]]
    inks = {name: colour(index) for index, name in enumerate(names)}
    chips = 1 + max((int(core["chip"]) for core in cores), default=0)
    columns, rows = chips * int(grid["tiles_x"]), int(grid["tiles_y"])
    if columns * rows > TILES_MAX:
        return document(400, 30, label(0, 18, f"a mesh of {columns} x {rows} tiles is too large to draw"), "core map")
    per_tile = max(int(grid["cores_per_tile"]), 1)
    body = [
        box(_left(x, grid), _top(y), TILE, TILE, ".empty", f"tile ({x}, {y}), free", 4)
        for y in range(rows)
        for x in range(columns)
    ]
    for core in cores:
        body.append(_core(core, grid, per_tile, inks, by))
    host_x, host_y = grid["host_port"]
    body.append(label(_left(host_x, grid) + 2, _top(host_y) - 2, "host", soft=True))
    width = _left(columns - 1, grid) + TILE + GAP
    height = _top(rows - 1) + TILE + GAP
    used = {name for core in cores for name in core["layers"]}
    shown = [(name, inks[name]) for name in names if name in used]
    scale = [(f"{share} %", heat(share / 100)) for share in (0, 25, 50, 75, 100)]
    legend, legend_height, legend_width = _legend(shown if by == "layer" else scale, height, max(width, 420.0))
    title = f"{len(cores)} cores on {chips} chip{'s' if chips > 1 else ''}, coloured by {by}"
    return document(max(width, legend_width), height + legend_height, "".join(body) + legend, title)


def _left(x: float, grid: Mapping[str, Any]) -> float:
    return GAP + x * (TILE + GAP) + (x // int(grid["tiles_x"])) * 2 * GAP


def _top(y: float) -> float:
    return 16 + y * (TILE + GAP)


def fullest(core: Mapping[str, Any]) -> tuple[float, str]:
    """Share and name of the resource that a core has least of; (0, "") where nothing is limited."""
    shares = [
        (float(used) / float(limit), name)
        for name, (used, limit) in core["use"].items()
        if number_of(used) is not None and number_of(limit)
    ]
    return max(shares, default=(0.0, ""))


def core_title(core: Mapping[str, Any]) -> str:
    """What a core holds, in words."""
    layers = ", ".join(f"{name} ({count} neurons)" for name, count in core["layers"].items())
    use = "; ".join(
        f"{name} {short(used)}" + (f" of {short(limit)} ({percent(used / limit, 0)})" if number_of(limit) else "")
        for name, (used, limit) in core["use"].items()
    )
    place = f"core {core['id']} at chip {core['chip']}, tile ({core['x']}, {core['y']}), core {core['core']}"
    synops = "" if number_of(core.get("synops")) is None else f"; {short(core['synops'])} synaptic operations"
    return f"{place}: {layers}. {use}{synops}"


def _core(core: Mapping[str, Any], grid: Mapping[str, Any], per_tile: int, inks: Mapping[str, str], by: str) -> str:
    across = 1
    while across * across < per_tile:
        across += 1
    down = -(-per_tile // across)
    width, height = (TILE - 4) / across, (TILE - 4) / down
    number = int(core["core"])
    x = _left(int(core["x"]), grid) + 2 + (number % across) * width
    y = _top(int(core["y"])) + 2 + (number // across) * height
    title = core_title(core)
    if by == "use":
        return box(x + 0.5, y + 0.5, width - 1, height - 1, heat(fullest(core)[0]), title)
    total = max(sum(int(count) for count in core["layers"].values()), 1)
    parts = []
    for name, count in core["layers"].items():
        part = (width - 1) * int(count) / total
        parts.append(box(x + 0.5, y + 0.5, part, height - 1, inks.get(name, ".empty"), title, 1))
        x += part
    return "".join(parts)


def _legend(items: Sequence[tuple[str, str]], top: float, width: float) -> tuple[str, float, float]:
    """Legend below the map, its height and width."""
    body, x, y, widest = [], GAP, top + 8, 0.0
    rest = len(items) - LEGEND_MAX
    for name, ink in [*items[:LEGEND_MAX], *([(f"and {rest} more", "none")] if rest > 0 else [])]:
        word = name if len(name) <= 28 else name[:12] + "…" + name[-14:]
        length = 30 + 7.2 * len(word)
        if x + length > width and x > GAP:
            x, y = GAP, y + 20
        body.append(box(x, y, 12, 12, ink) + label(x + 17, y + 10.5, word, soft=True))
        x += length
        widest = max(widest, x)
    return "".join(body), y + 24 - top, widest
