"""Placements to start from: stripes of the mesh in some order of the clusters, and spectral coordinates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nmc.ir.connectivity import Array, IndexArray
from nmc.passes.place.problem import Mask, Problem

MODES = 3
"""Modes that are iterated; the slowest two are coordinates."""

FILTER = (6, 40)
"""Rounds and degree of the spectral iteration: enough for a mesh of a few hundred tiles a side."""

DRAWN = (30, 20, 10, 8, 4, 2)
"""Steps towards partners before each spreading over the mesh: coarse order first, then fine."""

KEPT = 0.3
"""Part of its own coordinates that a cluster keeps in a step."""

MANY_STRIPES = 16
"""Stripes beyond so many are tried in powers of two: thin ones differ little."""

VISITS = 400_000_000
"""Flows that spectral coordinates may visit; graphs with more are placed in stripes."""


SCATTERED = 300
"""Random placements that are climbed from, at most, ..."""

SCATTERED_VISITS = 30_000_000
"""... and flows that one round of all these climbs looks at: small problems only."""


@dataclass(frozen=True, eq=False)
class Area:
    """A compact part of the mesh for the clusters that may lie anywhere.

    Attributes:
        free: clusters without a region; the others keep the sites that they have.
        sites: at least as many, column by column, row by row.
        column, row: of each of these sites.
    """

    free: IndexArray
    sites: IndexArray
    column: IndexArray
    row: IndexArray

    @classmethod
    def of(cls, problem: Problem) -> Area:
        """The area of a problem: rows and columns next to the origin, near a square."""
        task, start = problem.task, problem.row_major()
        free = np.flatnonzero(task.region_of == 0)
        usable = np.ones(len(task.x), dtype=np.bool_)
        usable[np.delete(start, free)] = False
        columns, rows = int(task.column.max()) + 1, int(task.row.max()) + 1
        while columns + rows > 2:
            # The longer side gives way, and the other one where it cannot.
            smaller = [(columns - 1, rows), (columns, rows - 1)]
            wanted = smaller if columns >= rows else smaller[::-1]
            fitting = [(c, r) for c, r in wanted if _inside(problem, usable, c, r).sum() >= len(free)]
            if not fitting:
                break
            columns, rows = fitting[0]
        sites = np.flatnonzero(_inside(problem, usable, columns, rows))
        order = np.lexsort((sites, task.row[sites], task.column[sites]))
        sites = sites[order]
        return cls(free, sites, task.column[sites], task.row[sites])


def _inside(problem: Problem, usable: Mask, columns: int, rows: int) -> Mask:
    inside: Mask = usable & (problem.task.column < columns) & (problem.task.row < rows)
    return inside


def starts(problem: Problem, generator: np.random.Generator) -> Iterator[IndexArray]:
    """Placements worth starting from, row-major order first; all keep the regions."""
    rows = problem.row_major()
    yield rows
    area = Area.of(problem)
    if len(area.free) < 2:
        return
    orders = [area.free]
    modes = _modes(problem, generator)
    if modes is not None:
        orders.append(area.free[np.argsort(modes[area.free, 0], kind="stable")])
    for order in orders:
        for stripes in _stripes(area):
            site_of = rows.copy()
            site_of[order] = area.sites[stripes[: len(order)]]
            yield site_of
    if modes is not None:
        yield _spread(problem, area, modes[:, 0], modes[:, 1])
        yield _spread(problem, area, modes[:, 1], modes[:, 0])


def _stripes(area: Area) -> Iterator[IndexArray]:
    """Orders of the area's sites: stripes of several widths, there and back, along columns and along rows."""
    for along, across in ((area.column, area.row), (area.row, area.column)):
        height = int(across.max()) + 1
        for count in sorted({-(-height // width) for width in range(1, height + 1)}):
            if count > MANY_STRIPES and count & (count - 1):
                continue
            stripe = across * count // height
            forward = np.where(stripe % 2 == 0, along, -along)
            # Back and forth inside a stripe too: neighbours in the order are neighbours on the mesh.
            inner = np.where(along % 2 == 0, across, -across)
            yield np.lexsort((inner, forward, stripe))


def _modes(problem: Problem, generator: np.random.Generator) -> Array | None:
    """(clusters, modes) the slowest modes of the flows; None: there are too many flows."""
    # Imported here: the compiled kernel takes a while to load, and listing passes needs none.
    from nmc.kernels.placement_spectral import slowest_modes

    task = problem.task
    rounds, degree = FILTER
    if len(task.partners) * MODES * rounds * degree > VISITS:
        return None
    vectors = generator.normal(size=(len(task.to_host), MODES))
    modes: Array = slowest_modes(task.starts, task.partners, task.weights, vectors, rounds, degree)
    return modes


def _spread(problem: Problem, area: Area, x: Array, y: Array) -> IndexArray:
    """Clusters drawn towards their partners and spread over the mesh again, several times; the best is kept."""
    from nmc.kernels.placement_spectral import drawn_together

    task = problem.task
    site_of = problem.row_major()
    held = task.region_of != 0
    best, cost = site_of, problem.cost(site_of)
    for steps in DRAWN:
        site_of = site_of.copy()
        site_of[area.free] = _spread_once(area, x[area.free], y[area.free])
        if problem.cost(site_of) < cost:
            best, cost = site_of, problem.cost(site_of)
        x, y = task.column[site_of].astype(np.float64), task.row[site_of].astype(np.float64)
        x, y = drawn_together(task.starts, task.partners, task.weights, x, y, held, steps, KEPT)
    x, y = task.column[best][area.free], task.row[best][area.free]
    for turned in ((-x, y), (x, -y), (-x, -y)):
        # The host sits at one side of the mesh.
        site_of = best.copy()
        site_of[area.free] = _spread_once(area, *turned)
        if problem.cost(site_of) < cost:
            best, cost = site_of, problem.cost(site_of)
    return best


def _spread_once(area: Area, x: Array, y: Array) -> IndexArray:
    """Sites in the order of the coordinates: columns are filled from left to right, each from top to bottom."""
    count = len(x)
    # Columns that have more sites than others get more clusters; what is left empty is spread evenly.
    taken = np.arange(count) * len(area.sites) // count
    column = np.empty(count, dtype=np.int64)
    column[np.argsort(x, kind="stable")] = area.column[taken]
    site_of = np.empty(count, dtype=np.int64)
    site_of[np.lexsort((y, column))] = area.sites[taken]
    return site_of


def scattered(problem: Problem, generator: np.random.Generator) -> Iterator[IndexArray]:
    """Random placements near the origin, for small problems: climbing from many of them beats one long search."""
    clusters, sites = len(problem.task.to_host), len(problem.task.x)
    visits = 2 * len(problem.task.partners) * sites + 1
    area = Area.of(problem)
    for _ in range(min(SCATTERED, SCATTERED_VISITS // visits) if clusters > 1 else 0):
        site_of = problem.row_major()
        site_of[area.free] = generator.permutation(area.sites)[: len(area.free)]
        yield site_of
