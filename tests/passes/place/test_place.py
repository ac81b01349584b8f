"""Placement: every cluster on a core of its own, honest errors, a climb that really climbs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.mapping import HOST, Partitioned, Place, Placed
from nmc.passes.base import text_form
from nmc.passes.partition import PartitionTiles
from nmc.passes.partition.traffic import traffic
from nmc.passes.place import PLACERS, PlaceAuto, PlaceHillClimb, PlaceRowMajor, placement_pass
from nmc.passes.place.problem import Problem
from nmc.passes.place.sites import sites
from tests.passes.networks import conv_net, residual_net
from tests.passes.targets import chip, context, tight


def partitioned(network=None, target=None) -> Partitioned:
    return PartitionTiles().run(network or residual_net(), context(target or tight(neurons=24)))


def hop_cost(placed: Placed) -> float:
    places = placed.places
    return sum(
        packets * (abs(places[a].x - places[b].x) + abs(places[a].y - places[b].y))
        for (a, b), packets in traffic(placed).items()
    )


def test_sites_go_tile_by_tile_over_chips_without_the_unavailable():
    grid = chip(tiles_x=2, tiles_y=2, cores_per_tile=2, unavailable_cores=(1, 4)).grid
    assert grid.cores_per_chip == 6
    first = [Place(0, 0, 0, 0), Place(0, 1, 0, 0), Place(0, 1, 0, 1), Place(0, 0, 1, 1)]
    first += [Place(0, 1, 1, 0), Place(0, 1, 1, 1)]
    assert sites(grid, 1) == first
    second = [replace(place, chip=1, x=place.x + 2) for place in first]
    assert sites(grid, 2) == first + second


def test_row_major_follows_the_network_and_the_host_sits_at_its_port():
    target = chip(host_port=(2, 1), unavailable_cores=(0,))
    program = partitioned(target=target)
    placed = PlaceRowMajor().run(program, context(target))
    expected = dict(enumerate(sites(target.grid, 1)[: program.cores_used]))
    assert placed.places == {**expected, HOST: Place(0, 2, 1, 0)}
    assert placed.clusters is program.clusters and placed.rates is program.rates


@pytest.mark.parametrize("placer", PLACERS)
def test_more_clusters_than_cores(placer):
    program = partitioned()
    grid = {"tiles_x": 2, "tiles_y": 2, "cores_per_tile": 1, "unavailable_cores": (3,)}
    with pytest.raises(NmcError) as caught:
        placement_pass(placer).run(program, context(chip(**grid, chips_max=10)))
    assert caught.value.exit_code is ExitCode.DOES_NOT_FIT
    needed = program.cores_used
    assert f"needs {needed} cores, {needed - 3} more than the 3 of 1 chip" in str(caught.value)
    chips = -(-needed // 3)
    error, note = caught.value.diagnostics
    assert f"(1) --chips {chips}; (2) in '" in error.help and "(3)" in error.help
    cores = {p.name: 0 for p in program.network.populations}
    for cluster in program.clusters[:-1]:
        for name in {piece.population for piece in cluster.slices}:
            cores[name] += 1
    most = max(cores, key=cores.__getitem__)
    assert f"layer '{most}' takes most, {cores[most]}, which are nearest to" in error.message
    assert error.origin == program.network.by_name[most].origin
    assert (note.slug, note.severity) == ("layers-placed", "note")
    assert "0 of 5 layers are placed on 3 cores, 0 cores are left; without room: 'a' (" in note.message
    placed = placement_pass(placer, chips).run(program, context(chip(**grid, chips_max=10)))
    assert {place.chip for place in placed.places.values()} == set(range(chips))
    with pytest.raises(NmcError) as caught:
        placement_pass(placer).run(program, context(chip(**grid, chips_max=2)))
    assert "at most 2 chips can be joined" in caught.value.diagnostics[0].help


@pytest.mark.parametrize("chips", [0, -1, 9])
def test_chips_out_of_range(chips):
    with pytest.raises(NmcError) as caught:
        PlaceRowMajor(chips).run(partitioned(), context(chip()))
    assert caught.value.exit_code is ExitCode.USAGE
    assert f"--chips {chips} is outside 1 to 8" in str(caught.value)


def test_hill_climbing_lowers_the_cost_to_a_point_where_no_swap_helps():
    program = replace(partitioned(), rates={"in": 0.3, "a": 0.1, "b": 0.7})
    target = tight(neurons=24)
    start = PlaceRowMajor().run(program, context(target))
    climbed = PlaceHillClimb().run(program, context(target))
    assert hop_cost(climbed) < 0.9 * hop_cost(start)
    free = sites(target.grid, 1)
    taken = {place: number for number, place in climbed.places.items() if number != HOST}
    best = hop_cost(climbed)
    for number in range(program.cores_used):
        for site in free:
            places = {**climbed.places, number: site}
            other = taken.get(site)
            if other is not None:
                places[other] = climbed.places[number]
            assert hop_cost(replace(climbed, places=places)) >= best - 1e-9


def test_cost_of_the_kernel_is_hop_weighted_packets():
    program = partitioned()
    placed = PlaceHillClimb().run(program, context(chip()))
    grid = sites(chip().grid, 1)
    site_of = np.array([grid.index(placed.places[n]) for n in range(program.cores_used)])
    cost = Problem.of(program, chip(), None).cost(site_of)
    assert cost == pytest.approx(hop_cost(placed))


def test_a_seed_gives_one_placement():
    program = partitioned()
    runs = [PlaceHillClimb().run(program, context(chip(), seed=seed)) for seed in (1, 1)]
    assert runs[0].places == runs[1].places


def test_one_cluster_and_no_traffic():
    target = tight(neurons=1000, in_axons=None, out_axons=None, synapse_bits=None)
    program = partitioned(conv_net(), target)
    assert program.cores_used == 1
    placed = PlaceHillClimb().run(program, context(target))
    assert placed.places[0] == Place(0, 0, 0, 0)


def test_factory():
    assert placement_pass("auto", 2) == PlaceAuto(2)
    assert [placement_pass(name).name for name in PLACERS] == [f"place-{name}" for name in PLACERS]
    assert text_form(placement_pass("row-major", 2)) == "place-row-major{chips=2}"
    with pytest.raises(NmcError) as caught:
        placement_pass("hillclimb")
    assert caught.value.exit_code is ExitCode.USAGE
    assert "'hill-climb'" in caught.value.diagnostics[0].help
