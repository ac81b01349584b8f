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
from nmc.kernels.placement import anneal, placement_cost, placement_costs
from nmc.passes.base import text_form
from nmc.passes.partition import PartitionTiles
from nmc.passes.place import PLACERS, PlaceAnneal, PlacePSO, placement_pass
from nmc.passes.place.problem import Problem
from nmc.passes.place.pso import keys_of_sites, seeded_globally, sites_of_keys
from nmc.passes.place.sites import sites
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
    assert costs["auto"] == min(costs["row-major"], costs["hill-climb"], costs["anneal"])


@pytest.mark.parametrize("placer", SEARCHING)
def test_a_seed_gives_one_placement_whatever_the_global_generator_says(placer):
    target = tight(neurons=24)
    program = partitioned(target)
    runs = []
    for state in (1, 2):
        np.random.seed(state)
        runs.append(placement_pass(placer).run(program, context(target, seed=5)))
    assert runs[0].places == runs[1].places


def grid_problem(seed: int, count: int = 40, width: int = 8):
    """Flows along a shuffled chain, on a mesh: the best order is known to be the chain."""
    rng = np.random.default_rng(seed)
    chain = rng.permutation(count)
    both = np.zeros((count, count))
    both[chain[:-1], chain[1:]] = both[chain[1:], chain[:-1]] = 1.0
    starts = np.concatenate([[0], np.cumsum((both > 0).sum(axis=1))])
    y, x = np.divmod(np.arange(width * width), width)
    return starts, np.nonzero(both)[1], both[both > 0], np.zeros(count), x, y, (0, 0)


@pytest.mark.parametrize("seed", range(3))
def test_annealing_reports_what_it_saved_and_orders_a_chain(seed):
    problem = grid_problem(seed)
    site_of = np.random.default_rng(seed).permutation(64)[:40]
    before = placement_cost(site_of, *problem)
    tiles = np.arange(64).reshape(8, 8, 1).transpose(1, 0, 2).copy()
    anywhere = np.zeros(40, dtype=np.int64), np.ones((1, 64), dtype=np.bool_)
    saved = anneal(site_of, *problem, *anywhere, tiles, seed, 400_000, 0.5, 0.01)
    after = placement_cost(site_of, *problem)
    assert saved == pytest.approx(before - after)
    assert len(set(site_of.tolist())) == 40
    assert 39 <= after <= 60 < before


def test_costs_of_many_placements_are_those_of_each():
    problem = grid_problem(1)
    rng = np.random.default_rng(0)
    sites_of = np.stack([rng.permutation(64)[:40] for _ in range(5)])
    np.testing.assert_allclose(placement_costs(sites_of, *problem), [placement_cost(s, *problem) for s in sites_of])


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
