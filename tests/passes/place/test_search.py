"""Annealing and particle swarms: legal, repeatable, never worse than the start, no traces left."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nmc.ir.mapping import HOST, Partitioned
from nmc.ir.reference import encode
from nmc.kernels.placement import Task, placement_costs, swap_climb
from nmc.kernels.placement_anneal import anneal
from nmc.kernels.placement_spectral import slowest_modes
from nmc.passes.base import text_form
from nmc.passes.partition import PartitionTiles
from nmc.passes.partition.traffic import senders, traffic
from nmc.passes.pins import NO_PINS
from nmc.passes.place import PLACERS, PlaceAnneal, PlacePSO, placement_pass
from nmc.passes.place.pinned import Start
from nmc.passes.place.problem import Problem, flows_of
from nmc.passes.place.pso import keys_of_sites, seeded_globally, sites_of_keys
from nmc.passes.place.sites import sites
from nmc.passes.place.starts import starts
from nmc.passes.route import RouteXY
from nmc.runtime.simulator import simulate
from tests.passes.networks import conv_net, residual_net
from tests.passes.targets import chip, context, tight

SEARCHING = ("hill-climb", "anneal", "pso", "auto")
PRESENT = ("row-major", *SEARCHING)


def partitioned(target) -> Partitioned:
    program = PartitionTiles().run(residual_net(), context(target))
    return replace(program, rates={"in": 0.3, "a": 0.1, "b": 0.7})


def cost(program: Partitioned, target, placer: str, *, seed: int = 0, chips: int | None = None) -> float:
    found = placement_pass(placer, chips).run(program, context(target, seed=seed))
    problem = Problem.of(program, target, chips)
    index = {place: number for number, place in enumerate(problem.free)}
    site_of = np.array([index[found.places[n]] for n in range(program.cores_used)])
    assert len(set(site_of.tolist())) == len(site_of)
    return problem.cost(site_of)


def test_every_placer_is_tested_here():
    assert set(PRESENT) == set(PLACERS)


@pytest.mark.parametrize("placer", PRESENT)
@pytest.mark.parametrize("chips", [1, 3])
def test_unavailable_cores_and_chips_are_respected(placer, chips):
    grid = {
        "tiles_x": 3,
        "tiles_y": 4,
        "cores_per_tile": 2,
        "unavailable_cores": (0, 1, 7, 12, 23),
        "host_port": (1, 1),
    }
    target = replace(tight(neurons=32), grid=chip(**grid).grid)
    program = partitioned(target)
    found = placement_pass(placer, chips).run(program, context(target))
    places = [place for number, place in found.places.items() if number != HOST]
    assert len(places) == len(set(places)) == program.cores_used
    assert set(places) <= set(sites(target.grid, chips))
    assert (found.places[HOST].x, found.places[HOST].y) == (1, 1)


@pytest.mark.parametrize("seed", range(3))
def test_search_never_ends_above_its_start(seed):
    target = tight(neurons=16)
    program = partitioned(target)
    costs = {placer: cost(program, target, placer, seed=seed, chips=2) for placer in PRESENT}
    assert costs["hill-climb"] <= costs["row-major"]
    assert costs["anneal"] <= costs["hill-climb"] + 1e-9
    assert costs["pso"] <= costs["hill-climb"] + 1e-9
    assert costs["auto"] <= min(costs["row-major"], costs["hill-climb"], costs["anneal"])


@pytest.mark.parametrize("placer", SEARCHING)
def test_a_seed_gives_one_placement_whatever_the_global_generator_says(placer):
    target = tight(neurons=24)
    program = partitioned(target)
    runs = []
    for state in (1, 2):
        np.random.seed(state)
        runs.append(placement_pass(placer).run(program, context(target, seed=5)))
    assert runs[0].places == runs[1].places


def mesh_task(both: np.ndarray, width: int, height: int, to_host: np.ndarray | None = None) -> Task:
    """Flows (clusters, clusters) on a mesh with one core per tile; all clusters may lie anywhere."""
    count = len(both)
    starts = np.concatenate([[0], np.cumsum((both > 0).sum(axis=1))])
    row, column = np.divmod(np.arange(width * height), width)
    tiles = np.arange(width * height).reshape(height, width, 1).transpose(1, 0, 2).copy()
    hosted = np.zeros(count) if to_host is None else to_host
    anywhere = np.zeros(count, dtype=np.int64), np.ones((1, width * height), dtype=np.bool_)
    partners = np.nonzero(both)[1].astype(np.int32)
    return Task(starts, partners, both[both > 0], hosted, column, row, (0, 0), column, row, tiles, *anywhere)


def chain_task(seed: int, count: int = 40, width: int = 8) -> Task:
    """Flows along a shuffled chain: the best order is known to be the chain."""
    chain = np.random.default_rng(seed).permutation(count)
    both = np.zeros((count, count))
    both[chain[:-1], chain[1:]] = both[chain[1:], chain[:-1]] = 1.0
    return mesh_task(both, width, width)


def mesh_flows(side: int, seed: int) -> np.ndarray:
    """Flows between the neighbours of a mesh whose clusters have shuffled numbers: each has a link of its own."""
    number = np.random.default_rng(seed).permutation(side * side).reshape(side, side)
    both = np.zeros((side * side, side * side))
    for a, b in ((number[:, :-1], number[:, 1:]), (number[:-1], number[1:])):
        both[a, b] = both[b, a] = 1.0
    return both


def one_cost(task: Task, site_of: np.ndarray) -> float:
    return float(placement_costs(task, site_of[None])[0])


@pytest.mark.parametrize("seed", range(3))
def test_annealing_reports_what_it_saved_and_orders_a_chain(seed):
    task = chain_task(seed)
    site_of = np.random.default_rng(seed).permutation(64)[:40]
    before = one_cost(task, site_of)
    saved, made = anneal(task, site_of, seed, 400_000, 0.5, 0.01, 8)
    after = one_cost(task, site_of)
    assert saved == pytest.approx(before - after) and made > 1000
    assert len(set(site_of.tolist())) == 40
    assert 39 <= after <= 60 < before


@pytest.mark.parametrize("reach", [1, 8])
def test_climbing_reports_its_swaps_and_keeps_one_cluster_a_core(reach):
    task = chain_task(0)
    site_of = np.random.default_rng(0).permutation(64)[:40]
    before = one_cost(task, site_of)
    assert swap_climb(task, site_of, np.arange(40), 100, reach) > 0
    assert one_cost(task, site_of) < before
    assert len(set(site_of.tolist())) == 40
    assert swap_climb(task, site_of, np.arange(40), 100, reach) == 0


def test_the_slowest_modes_are_those_of_the_flows():
    rng = np.random.default_rng(0)
    both = rng.random((30, 30)) * (rng.random((30, 30)) < 0.3)
    both = np.triu(both, 1) + np.triu(both, 1).T
    task = mesh_task(both, 6, 5)
    found = slowest_modes(task.starts, task.partners, task.weights, rng.normal(size=(30, 3)), 8, 20)
    root = np.sqrt(both.sum(axis=1))
    values, vectors = np.linalg.eigh(both / root[:, None] / root[None])
    for mode in range(2):
        exact = vectors[:, -2 - mode] / root
        assert abs(np.corrcoef(found[:, mode], exact)[0, 1]) > 0.99, values[-4:]


def test_spectral_starts_unfold_a_shuffled_mesh(monkeypatch):
    problem = Problem(Start(None, (None,) * 256, tuple(range(256))), (), (0, 0))
    monkeypatch.setitem(problem.__dict__, "task", mesh_task(mesh_flows(16, 1), 17, 16))
    best = min(starts(problem, np.random.default_rng(0)), key=problem.cost)
    assert len(set(best.tolist())) == 256
    # Every flow needs one link at least; row-major order of shuffled numbers needs about eleven.
    assert 480 <= problem.cost(best) < problem.cost(problem.row_major()) / 4


def test_costs_of_many_placements_are_those_of_each():
    task = chain_task(1)
    rng = np.random.default_rng(0)
    sites_of = np.stack([rng.permutation(64)[:40] for _ in range(5)])
    for cost_of, site_of in zip(placement_costs(task, sites_of), sites_of, strict=True):
        x, y = task.column[site_of], task.row[site_of]
        links = sum(
            task.weights[k] * (abs(x[a] - x[task.partners[k]]) + abs(y[a] - y[task.partners[k]]))
            for a in range(40)
            for k in range(task.starts[a], task.starts[a + 1])
        )
        assert cost_of == pytest.approx(links / 2)


def test_dear_chip_crossings_are_avoided():
    target = tight(neurons=24)
    dear = replace(target, grid=replace(target.grid, crossing_links=50))
    program = partitioned(target)

    def crossing(chosen) -> float:
        found = placement_pass("auto", 2).run(program, context(chosen))
        return sum(
            packets * (found.places[a].chip != found.places[b].chip) for (a, b), packets in traffic(found).items()
        )

    assert program.cores_used > 12
    assert crossing(dear) <= crossing(target)
    problem = Problem.of(program, dear, 2)
    near, far = problem.task.x[problem.task.column == 3], problem.task.x[problem.task.column == 4]
    assert set(far - near[0]) == {50}


def test_hops_are_those_of_the_neurons_that_fire():
    target = tight(neurons=24)
    program = partitioned(target)
    network = program.network
    rng = np.random.default_rng(0)
    spikes = {p.name: rng.integers(0, 9, p.shape).astype(np.float64) for p in network.populations}
    flows = flows_of(program, spikes)
    wanted = 0.0
    for sender in senders(program):
        piece = program.by_id[sender.source].slices[sender.slice]
        part = spikes[piece.population][tuple(slice(*axis) for axis in sender.box)]
        wanted += float(part[sender.mask].sum()) * (sender.source != sender.destination)
    assert flows.weights.sum() / 2 + flows.to_host.sum() == pytest.approx(wanted)


def test_keys_stand_for_placements():
    site_of = np.array([4, 0, 2])
    keys = keys_of_sites(site_of, 6)
    assert ((keys > 0) & (keys < 1)).all()
    np.testing.assert_array_equal(sites_of_keys(keys[None], 3), [site_of])


def test_options_in_the_text_form():
    assert text_form(PlaceAnneal(2, moves=50)) == "place-anneal{chips=2,moves=50}"
    assert text_form(PlacePSO(particles=7)) == "place-pso{particles=7}"


def test_without_a_move_annealing_is_hill_climbing():
    target = tight(neurons=24)
    program = partitioned(target)
    nothing = PlaceAnneal(moves=0).run(program, context(target)).places
    assert nothing == placement_pass("hill-climb").run(program, context(target)).places


@pytest.mark.parametrize("particles", [1, 2, 3])
def test_small_swarms(particles):
    target = tight(neurons=24)
    PlacePSO(particles=particles, iterations=2).run(partitioned(target), context(target))


def test_one_cluster_needs_no_search():
    target = tight(neurons=1000, in_axons=None, out_axons=None, synapse_bits=None)
    program = PartitionTiles().run(conv_net(), context(target))
    assert program.cores_used == 1
    for placer in PRESENT:
        assert cost(program, target, placer) >= 0.0


def test_the_global_generator_is_given_back(monkeypatch):
    np.random.seed(3)
    before = np.random.get_state()
    target = tight(neurons=24)
    monkeypatch.setenv("LOG_CFG", "somebody's own")
    PlacePSO(iterations=5).run(partitioned(target), context(target))
    after = np.random.get_state()
    assert before[0] == after[0] and before[2:] == after[2:]
    np.testing.assert_array_equal(before[1], after[1])
    assert os.environ["LOG_CFG"] == "somebody's own"
    with pytest.raises(ZeroDivisionError), seeded_globally(1):
        raise ZeroDivisionError
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])


def test_importing_and_running_pyswarms_leaves_no_file_and_no_log_handler(tmp_path):
    code = (
        "import logging, os\n"
        "root = logging.getLogger()\n"
        "kept = logging.NullHandler(); root.addHandler(kept); level = root.level\n"
        "from nmc.passes.place import PlacePSO\n"
        "import sys; assert 'pyswarms' not in sys.modules\n"
        "from tests.passes.place.test_search import partitioned, tight, context\n"
        "target = tight(neurons=24)\n"
        "PlacePSO(iterations=3).run(partitioned(target), context(target))\n"
        "assert 'pyswarms' in sys.modules\n"
        "assert root.handlers == [kept] and root.level == level, root.handlers\n"
        "assert 'LOG_CFG' not in os.environ\n"
    )
    root = str(Path(__file__).resolve().parents[3])
    env = {k: v for k, v in os.environ.items() if k != "LOG_CFG"} | {"PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" == done.stdout
    assert list(tmp_path.iterdir()) == []


def test_handlers_of_others_stay_open():
    closed = []

    class Handler(logging.Handler):
        def close(self):
            closed.append(self)
            super().close()

    handler = Handler()
    logging.getLogger("somebody").addHandler(handler)
    try:
        target = tight(neurons=24)
        PlacePSO(iterations=2).run(partitioned(target), context(target))
        assert not closed
        assert logging.getLogger("somebody").handlers == [handler]
    finally:
        logging.getLogger("somebody").removeHandler(handler)


@pytest.mark.parametrize("placer", PRESENT)
def test_the_cost_is_the_hops_that_the_simulator_counts(placer):
    network = residual_net()
    target = tight(neurons=24)
    inputs = np.random.default_rng(0).random((3, *network.input_shape)).astype(np.float32)
    passes = context(target, inputs=inputs)
    found = placement_pass(placer).run(PartitionTiles().run(network, passes), passes)
    problem = Problem.posed(found, passes, None, NO_PINS, "test")
    index = {place: number for number, place in enumerate(problem.free)}
    site_of = np.array([index[found.places[n]] for n in range(found.cores_used)])
    counters = simulate(RouteXY().run(found, passes), encode(network, inputs)).counters
    assert counters.hops > 0
    assert problem.cost(site_of) == pytest.approx(counters.hops / 3)
