"""Placers on the cluster nets of Jin et al., ASPLOS 2023: fewer hop-weighted packets than a random placement.

The nets are rebuilt by their generators' rules. With ids shuffled nothing is left of the order in
which a generator numbers clusters, which row-major order alone would exploit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mapping_workloads as workloads
import numpy as np

from nmc.ir.diagnostic import DiagnosticSink
from nmc.kernels.placement import Task
from nmc.passes.base import Context
from nmc.passes.place.anneal import PlaceAnneal, annealed
from nmc.passes.place.auto import best_found
from nmc.passes.place.hill_climb import climb
from nmc.passes.place.pinned import Start
from nmc.passes.place.problem import Problem

SEED = 0
RANDOM = 3
"""Random placements whose mean cost is the unit."""

SHUFFLE = 5
"""Seed of the shuffled ids."""


@dataclass(frozen=True)
class Net:
    """A cluster net on a mesh, and what is to be reached.

    Attributes:
        layers, width: of the net, in clusters.
        columns, rows: of the mesh.
        slow: rivals that would take many minutes are left out.
    """

    layers: int
    width: int
    columns: int
    rows: int
    dense: bool = False
    shuffled: bool = False
    slow: bool = False


NETS = {
    "conv 32 x 32, ids shuffled": Net(32, 32, 32, 32, shuffled=True),
    "conv 64 x 64, ids shuffled, 61 x 68 mesh": Net(64, 64, 61, 68, shuffled=True),
    "conv 64 x 64, ids in order": Net(64, 64, 64, 64),
    "dense 256 x 256": Net(256, 256, 256, 256, dense=True, slow=True),
}


@dataclass(frozen=True)
class PlacementRow:
    """One placer on one net; no ratio: it was not run."""

    placer: str
    of_random: float | None = None
    cpu: float = 0.0
    wall: float = 0.0


def made(task: Task) -> Problem:
    """A problem whose clusters may lie anywhere, of a task that is there already."""
    count = len(task.to_host)
    problem = Problem(Start(None, (None,) * count, tuple(range(count))), (None,) * len(task.x), task.port)
    problem.__dict__["task"] = task
    return problem


def mesh_task(starts: np.ndarray, partners: np.ndarray, weights: np.ndarray, columns: int, rows: int, cores: int = 1):
    """The task of flows on a mesh that is all there."""
    count, sites = len(starts) - 1, columns * rows * cores
    tile = np.arange(sites) // cores
    row, column = np.divmod(tile, columns)
    tiles = np.arange(sites).reshape(rows, columns, cores).transpose(1, 0, 2).copy()
    anywhere = np.zeros(count, dtype=np.int64), np.ones((1, sites), dtype=np.bool_)
    return Task(starts, partners, weights, np.zeros(count), column, row, (0, 0), column, row, tiles, *anywhere)


def mesh_problem(both: np.ndarray, columns: int, rows: int, cores: int) -> Problem:
    """The problem of flows between clusters, (clusters, clusters), both directions added."""
    both = both.copy()
    np.fill_diagonal(both, 0.0)
    starts = np.concatenate([[0], np.cumsum((both > 0).sum(axis=1))]).astype(np.int64)
    return made(mesh_task(starts, np.nonzero(both)[1].astype(np.int32), both[both > 0], columns, rows, cores))


def net_problem(net: Net) -> Problem:
    """The problem of a cluster net."""
    count, source, target, spikes = workloads.cluster_net(net.layers, net.width, dense=net.dense)
    if net.shuffled:
        name = np.random.default_rng(SHUFFLE).permutation(count)
        source, target = name[source], name[target]
    one, other = np.concatenate([source, target]), np.concatenate([target, source])
    order = np.argsort(one * count + other, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(one, minlength=count))]).astype(np.int64)
    weights = np.concatenate([spikes, spikes])[order]
    return made(mesh_task(starts, other[order].astype(np.int32), weights, net.columns, net.rows))


def hilbert_order(columns: int, rows: int) -> np.ndarray:
    """(sites,) the sites of a mesh along the Hilbert curve of the smallest square around it."""
    side = 1 << (max(columns, rows) - 1).bit_length()
    row, column = np.divmod(np.arange(columns * rows), columns)
    x, y, key = column.copy(), row.copy(), np.zeros(columns * rows, dtype=np.int64)
    size = side // 2
    while size:
        right, up = (x & size) > 0, (y & size) > 0
        key += size * size * ((3 * right) ^ up)
        flip = ~up & right
        x[flip], y[flip] = side - 1 - x[flip], side - 1 - y[flip]
        x[~up], y[~up] = y[~up], x[~up].copy()
        size //= 2
    return np.argsort(key, kind="stable")


def _hilbert(problem: Problem, net: Net) -> np.ndarray:
    return hilbert_order(net.columns, net.rows)[: net.layers * net.width].astype(np.int64)


def _swarm(problem: Problem) -> np.ndarray | None:
    try:
        from nmc.passes.place.pso import PlacePSO, swarm

        return swarm(problem, problem.row_major(), np.random.default_rng(SEED), PlacePSO.particles, PlacePSO.iterations)
    except ImportError:
        return None


def _force_directed(problem: Problem, net: Net) -> np.ndarray:
    """Hilbert order, then swaps with neighbours as long as they help, after Jin et al.; the climb is ours."""
    from nmc.kernels.placement import swap_climb

    site_of = _hilbert(problem, net)
    swap_climb(problem.task, site_of, np.arange(len(site_of)), 50, 1)
    return site_of


def placement_rows(net: Net) -> Iterator[PlacementRow]:
    """Every placer on one net."""
    problem = net_problem(net)
    sites, clusters = net.columns * net.rows, net.layers * net.width
    rng = np.random.default_rng(SEED)
    unit = float(np.mean([problem.cost(rng.permutation(sites)[:clusters]) for _ in range(RANDOM)]))
    context = Context(None, DiagnosticSink(), None, SEED)
    placers: dict[str, Callable[[], np.ndarray | None]] = {
        "row-major": problem.row_major,
        "Hilbert curve": lambda: _hilbert(problem, net),
        "Hilbert curve, neighbour swaps": lambda: _force_directed(problem, net),
        "hill-climb": lambda: climb(problem, problem.row_major(), context.generator("place-hill-climb")),
        "anneal": lambda: annealed(
            problem,
            climb(problem, problem.row_major(), context.generator("place-hill-climb")),
            context.generator(PlaceAnneal.name),
            PlaceAnneal.moves,
        ),
        "PSO (pyswarms)": lambda: _swarm(problem),
        "auto": lambda: best_found(problem, context, PlaceAnneal.moves),
    }
    for name, place in placers.items():
        if net.slow and name not in ("row-major", "Hilbert curve", "auto"):
            yield PlacementRow(name)
            continue
        cpu, wall = time.process_time(), time.perf_counter()
        site_of = place()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        ratio = None if site_of is None else problem.cost(site_of) / unit
        yield PlacementRow(name, ratio, cpu, wall)


def warm_up() -> None:
    """Compile the kernels."""
    list(placement_rows(Net(4, 4, 4, 5, shuffled=True)))


def placement_table(name: str, net: Net, rows: list[PlacementRow]) -> str:
    """The rows of a net as Markdown."""
    clusters = net.layers * net.width
    lines = [
        f"**{name}**, {clusters:,} clusters on {net.columns} x {net.rows} cores\n",
        "| placer | hop-weighted packets, of random | CPU (s) | wall (s) |",
        "|---|--:|--:|--:|",
    ]
    for row in rows:
        if row.of_random is None:
            lines.append(f"| {row.placer} | not run | | |")
        else:
            lines.append(f"| {row.placer} | {row.of_random:.4f} | {row.cpu:.2f} | {row.wall:.2f} |")
    return "\n".join(lines)
