"""Particle swarms (pyswarms): the placer of the SpiNeMap line of work, as a baseline."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import ClassVar

import numpy as np

from nmc.ir.connectivity import Array, IndexArray
from nmc.ir.mapping import Partitioned, Placed
from nmc.passes.base import Context, Program
from nmc.passes.pins import NO_PINS, Pins
from nmc.passes.place.hill_climb import climb
from nmc.passes.place.problem import Problem
from nmc.passes.place.row_major import placed

WEIGHTS = {"c1": 1.5, "c2": 1.5, "w": 0.7}
"""Pull to a particle's own best, to the swarm's best, and inertia."""

SPARE_SITES = 2
"""Particles choose among the first so many times the clusters' number of cores."""

SPREAD = 0.1
"""Standard deviation of the keys of particles that start near a good one; keys lie in [0, 1]."""


@dataclass(frozen=True)
class PlacePSO:
    """Particle-swarm search over orders of the clusters, then swaps as long as they help.

    A particle holds one key per core of the mesh; clusters take the cores in the order of their
    keys. Half of the particles start at or near row-major order, the others anywhere: started at
    the climbed order, the swarm never left it. The polished swarm or the climbed order is
    kept, whichever is better.

    Attributes:
        chips: chips that may be used; None: the target's own number.
        pins: layers that have to lie somewhere.
        particles: in the swarm.
        iterations: of the swarm.
    """

    name: ClassVar[str] = "place-pso"
    stage: ClassVar[str] = "place"
    consumes: ClassVar[type[Program]] = Partitioned
    produces: ClassVar[type[Program]] = Placed

    chips: int | None = None
    pins: Pins = NO_PINS
    particles: int = 60
    iterations: int = 200

    def run(self, program: Program, context: Context) -> Program:
        """Place the clusters.

        Raises:
            NmcError: there are more clusters than cores, or pins cannot be kept (exit 4).
        """
        problem = Problem.posed(program, context, self.chips, self.pins, self.name)
        rows = problem.row_major()
        if len(rows) < 2:
            return placed(problem.partitioned, problem.places(rows), context.target)
        climbed = climb(problem, rows, context.generator("place-hill-climb"))
        generator = context.generator(self.name)
        found = swarm(problem, rows, generator, self.particles, self.iterations)
        polished = climb(problem, found, generator)
        site_of = min((climbed, polished), key=problem.cost)
        return placed(problem.partitioned, problem.places(site_of), context.target)


def sites_of_keys(keys: Array, clusters: int) -> IndexArray:
    """(particles, clusters) the placements that keys (particles, sites) stand for."""
    order = np.argsort(keys, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(keys.shape[1])[None], axis=1)
    return np.ascontiguousarray(ranks[:, :clusters], dtype=np.int64)


def keys_of_sites(site_of: IndexArray, sites: int) -> Array:
    """(sites,) keys in [0, 1] that stand for a placement; cores left empty follow in order."""
    empty = np.setdiff1d(np.arange(sites), site_of)
    return (np.concatenate([site_of, empty]) + 0.5) / sites


def swarm(
    problem: Problem,
    good: IndexArray,
    generator: np.random.Generator,
    particles: int,
    iterations: int,
) -> IndexArray:
    """The best placement that a swarm finds.

    Args:
        problem: clusters and cores.
        good: a placement to start from.
        generator: seeds the swarm.
        particles: in the swarm.
        iterations: of the swarm.
    """
    from nmc.kernels.placement import placement_costs

    count = len(problem.row_major())
    sites = min(max(SPARE_SITES * count, int(good.max()) + 1), len(problem.free))
    start = generator.random((max(particles, 1), sites))
    near = (len(start) + 1) // 2
    start[:near] = keys_of_sites(good, sites)
    start[1:near] += generator.normal(0.0, SPREAD, (near - 1, sites))
    np.clip(start, 0.0, 1.0, out=start)

    # A placement that breaks a pin costs more than any that keeps them; `good` keeps them.
    task = problem.task
    reach = float(np.ptp(task.x) + np.ptp(task.y) + sum(problem.port) + 1)
    penalty = 1.0 + reach * float(task.weights.sum() + task.to_host.sum())

    def cost(keys: Array) -> Array:
        sites_of = sites_of_keys(keys, count)
        costs: Array = placement_costs(problem.task, sites_of) + penalty * problem.astray(sites_of)
        return costs

    with quiet_pyswarms(), seeded_globally(int(generator.integers(1 << 32))):
        # Imported here: it takes most of a second, and its import configures logging.
        from pyswarms.single import GlobalBestPSO

        optimizer = GlobalBestPSO(
            n_particles=len(start),
            dimensions=sites,
            options=dict(WEIGHTS),
            bounds=(np.zeros(sites), np.ones(sites)),
            bh_strategy="nearest",
            init_pos=start,
        )
        _, best = optimizer.optimize(cost, iters=iterations, verbose=False)
    found: IndexArray = sites_of_keys(np.asarray(best)[None], count)[0]
    return found


@contextmanager
def quiet_pyswarms() -> Iterator[None]:
    """Point LOG_CFG at a quiet file: pyswarms reads it for each reporter, the first at import."""
    before = os.environ.get("LOG_CFG")
    with as_file(files("nmc.passes.place") / "pyswarms_logging.yaml") as path:
        os.environ["LOG_CFG"] = str(path)
        try:
            yield
        finally:
            if before is None:
                del os.environ["LOG_CFG"]
            else:
                os.environ["LOG_CFG"] = before


@contextmanager
def seeded_globally(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, the only one that pyswarms draws from, and give it back as it was."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)
