"""Pinned layers: every placer keeps them, what cannot be kept is named with numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from nmc.hardware.target import CoreLimits
from nmc.ir.connectivity import Pool, Skip
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.mapping import HOST, Partitioned, Placed
from nmc.passes.base import Pipeline, text_form
from nmc.passes.check import CheckMapping, mapping_diagnostics
from nmc.passes.check.pins import pin_diagnostics
from nmc.passes.partition import PARTITIONERS, PartitionTiles, partition_passes
from nmc.passes.pins import NO_PINS, Pins
from nmc.passes.place import PLACERS, PlaceRowMajor, placement_pass
from nmc.passes.place.matching import matched
from nmc.passes.place.problem import Problem
from nmc.passes.route import RouteXY
from tests.passes.networks import Build, conv_net, host_net, residual_net
from tests.passes.targets import LIMITS, chip, context, tight

GRID = {"tiles_x": 3, "tiles_y": 2, "cores_per_tile": 2, "chips": 2, "unavailable_cores": (0, 5)}


def target(**limits):
    return replace(tight(neurons=48, **limits), grid=chip(**GRID).grid)


def routed(pins: Pins, placer: str = "row-major", partitioner: str = "tiles", *, network=None, on=None, seed: int = 0):
    steps = (*partition_passes(partitioner), placement_pass(placer, None, pins), RouteXY(), CheckMapping(pins))
    return Pipeline(steps).run(network or residual_net(), context(on or target(), seed=seed))


def places(placed: Placed, layer: str) -> set:
    return {placed.places[c.id] for c in placed.clusters for piece in c.slices if piece.population == layer}


def failure(pins: dict[str, str], *, network=None, on=None) -> NmcError:
    with pytest.raises(NmcError) as caught:
        routed(Pins.of(pins), network=network, on=on)
    return caught.value


@pytest.mark.parametrize("partitioner", PARTITIONERS)
@pytest.mark.parametrize("placer", PLACERS)
def test_every_placer_keeps_pins_over_two_chips_and_around_unavailable_cores(placer, partitioner):
    pins = Pins.of({"a": "chip:1", "b": "core:2-9", "d": "tile:4,0-5,1", "out": "core:23"})
    found = routed(pins, placer, partitioner)
    assert {place.chip for place in places(found, "a")} == {1}
    assert {(p.chip, p.x, p.y, p.core) for p in places(found, "b")} <= {
        (0, x, y, core) for x, y, core in [(1, 0, 0), (1, 0, 1), (2, 0, 0), (0, 1, 0), (0, 1, 1), (1, 1, 0), (1, 1, 1)]
    }
    assert {(place.x, place.y) for place in places(found, "d")} <= {(4, 0), (5, 0), (4, 1), (5, 1)}
    assert {(p.chip, p.x, p.y, p.core) for p in places(found, "out")} == {(1, 5, 1, 1)}
    assert mapping_diagnostics(found, target()) == ()


@pytest.mark.parametrize("placer", PLACERS)
def test_searching_placers_gain_inside_the_pins_and_repeat_themselves(placer):
    pins = Pins.of({"a": "tile:2,0-3,1", "c": "chip:0", "out": "tile:5,1"})
    program = PartitionTiles().run(residual_net(), context(target()))
    problem = Problem.of(program, target(), None, pins)
    start = problem.row_major()
    runs = [placement_pass(placer, None, pins).run(program, context(target(), seed=7)) for _ in range(2)]
    assert runs[0].places == runs[1].places
    site = {place: number for number, place in enumerate(problem.free)}
    site_of = np.array([site[runs[0].places[n]] for n in range(program.cores_used)])
    assert problem.cost(site_of) <= problem.cost(start)
    assert (problem.cost(site_of) < problem.cost(start)) == (placer != "row-major")
    np.testing.assert_array_equal(problem.astray(np.stack([site_of, start])), [0, 0])


def test_a_core_of_layers_that_belong_apart_is_cut():
    roomy = replace(target(), core=replace(LIMITS, neurons=500, in_axons=None, out_axons=None, synapse_bits=None))
    program = PartitionTiles().run(conv_net(), context(roomy))
    assert program.cores_used == 1
    together = routed(Pins.of({"a": "chip:1"}), network=conv_net(), on=roomy)
    assert together.cores_used == 1 and together.places[0].chip == 1
    apart = routed(Pins.of({"a": "chip:1", "b": "chip:0"}), network=conv_net(), on=roomy)
    assert [[s.population for s in c.slices] for c in apart.clusters] == [["a"], ["b"], ["out"], ["in"]]
    assert [c.id for c in apart.clusters] == [0, 1, 2, HOST]
    assert (apart.places[0].chip, apart.places[1].chip) == (1, 0)


def test_clusters_pinned_to_one_core_are_joined_where_the_limits_hold():
    limits = {"in_axons": None, "out_axons": None, "synapse_bits": None}
    program = PartitionTiles().run(residual_net(), context(target(**limits)))
    assert program.cores_used > 2
    found = routed(Pins.of({"d": "core:3", "out": "core:3"}), partitioner="greedy", on=target(**limits))
    assert places(found, "d") == places(found, "out") and len(places(found, "d")) == 1
    names = [{s.population for s in c.slices} for c in found.clusters]
    assert {"d", "out"} in names


def test_all_wrong_pins_at_once():
    error = failure({"aa": "chip:0", "x": "chip:0", "in": "chip:0", "a": "chip:2", "b": "core:0", "c": "tile:0,2"})
    assert error.exit_code is ExitCode.USAGE
    slugs = [d.slug for d in error.diagnostics]
    assert slugs == [
        *["pin-unknown-layer"] * 2,
        "pin-on-host",
        "pin-outside-grid",
        "pin-unavailable",
        "pin-outside-grid",
    ]
    near, far, _, chips, gone, row = error.diagnostics
    assert near.help == "did you mean 'a'?"
    assert far.help == "layers: a, b, c, d, out"
    assert "2 chips of 'small' have chips 0 to 1" in chips.message
    assert "cores not available on each chip: 0, 5" in gone.help
    assert "2 chips of 'small' have tiles 0,0 to 5,1" in row.message
    assert all(d.origin is not None for d in (error.diagnostics[2], gone))


def test_how_many_chips_would_reach():
    wide = replace(target(), grid=replace(target().grid, chips_max=4))
    helps = [failure({"a": text}, on=wide).diagnostics[0].help for text in ("core:40", "chip:3", "tile:11,1")]
    assert all(text.endswith("or give --chips 4") for text in helps)
    helps = [failure({"a": text}, on=wide).diagnostics[0].help for text in ("core:48", "chip:4", "tile:2,2")]
    assert helps == ["pin the layer to a place inside the grid"] * 3


def test_a_folded_node_names_its_layer():
    network = residual_net()
    first = network.projections[0]
    renamed = replace(first, origin=replace(first.origin, node="conv_of_a"))
    error = failure({"conv_of_a": "chip:0"}, network=replace(network, projections=(renamed, *network.projections[1:])))
    assert error.diagnostics[0].help == "'conv_of_a' is computed by the layer 'a': pin that"


def test_layers_of_the_host_lie_nowhere():
    error = failure({"a": "chip:0"}, network=host_net())
    assert [d.slug for d in error.diagnostics] == ["pin-on-host"]


def test_a_place_that_is_too_small():
    error = failure({"a": "core:2-3", "out": "core:7"})
    assert error.exit_code is ExitCode.DOES_NOT_FIT
    first, note = error.diagnostics
    cores = Counter(
        s.population for c in PartitionTiles().run(residual_net(), context(target())).clusters for s in c.slices
    )
    needed = int(first.message.split(" are needed")[0].split(", ")[-1])
    assert first.slug == "pin-too-small" and first.origin.node == "node_a"
    assert 2 < needed <= cores["a"]
    assert first.message.startswith(
        f"pin 'a=core:2-3': 2 cores may be used, {needed} are needed, {needed - 2} more; 'a'"
    )
    assert f"(1) pin it to a place with {needed} cores" in first.help and "(3)" in first.help
    assert (note.slug, note.severity) == ("layers-placed", "note")
    routed(Pins.of({"a": f"core:6-{5 + needed}", "out": "core:3"}))


def test_layers_that_collide():
    error = failure({"a": "core:3-4", "c": "core:4+core:3", "d": "chip:1"})
    first = error.diagnostics[0]
    assert error.exit_code is ExitCode.DOES_NOT_FIT
    assert first.slug == "pins-collide"
    assert first.message.startswith("pins 'a=core:3-4', 'c=core:4+core:3': 2 cores may be used, ")
    assert "are needed together" in first.message and ", or apart" in first.help


def test_two_crowds_are_two_errors():
    error = failure({"a": "core:3", "b": "core:8"})
    assert [d.slug for d in error.diagnostics] == ["pin-too-small", "pin-too-small", "layers-placed"]


def test_a_cut_that_breaks_a_limit_is_named():
    shape = (4, 6, 6)
    build = Build(shape).add("a", [("in", Skip(np.full(4, 2), shape), 1)])
    for name in "bcd":
        build.add(name, [("a", Pool(np.full(4, 2), shape, (6, 6), (6, 6)), 1)], shape=(4,))
    roomy = replace(target(), core=CoreLimits(neurons=1000, out_axons=200))
    assert routed(NO_PINS, network=build.network(), on=roomy).cores_used == 1
    error = failure({"b": "chip:0", "c": "core:3", "d": "chip:1"}, network=build.network(), on=roomy)
    assert error.exit_code is ExitCode.DOES_NOT_FIT
    (found,) = error.diagnostics
    assert found.slug == "core-out-axons" and found.origin.node == "node_a"
    assert "a core of 'a' has out_axons = 432, 232 over the limit of 200" in found.message


def test_the_checker_finds_a_broken_pin():
    pins = Pins.of({"a": "chip:0", "b": "tile:0,0-2,1", "c": "core:0-11", "gone": "chip:0"})
    program = PartitionTiles().run(residual_net(), context(target()))
    placed = PlaceRowMajor(pins=Pins(pins.entries[:3])).run(program, context(target()))
    assert [d.message for d in pin_diagnostics(placed, pins, target().grid)] == [
        "the layer 'gone' is pinned to chip:0 and does not exist"
    ]
    holder = next(c for c in placed.clusters if {s.population for s in c.slices} == {"a"})
    elsewhere = replace(placed.places[holder.id], chip=1, x=placed.places[holder.id].x + 3)
    broken = replace(placed, places={**placed.places, holder.id: elsewhere})
    found = pin_diagnostics(broken, Pins(pins.entries[:3]), target().grid)
    assert [d.slug for d in found] == ["mapping-pin"]
    words = f"'a' is pinned to chip:0; {holder.neurons} of its 144 neurons lie elsewhere"
    assert words in found[0].message and found[0].origin.node == "node_a"
    moved = {n: replace(p, chip=1, x=p.x + 3) if n != HOST else p for n, p in placed.places.items()}
    everywhere = pin_diagnostics(replace(placed, places=moved), Pins(pins.entries[:3]), target().grid)
    assert [d.slug for d in everywhere] == ["mapping-pin"] * 3
    routes = RouteXY().run(broken, context(target()))
    with pytest.raises(NmcError) as caught:
        CheckMapping(pins).run(routes, context(target()))
    assert caught.value.exit_code is ExitCode.GATE
    assert {"mapping-pin"} <= {d.slug for d in caught.value.diagnostics}


def test_without_pins_nothing_changes():
    program: Partitioned = PartitionTiles().run(residual_net(), context(target()))
    problem = Problem.of(program, target(), None)
    assert problem.partitioned is program
    np.testing.assert_array_equal(problem.row_major(), np.arange(program.cores_used))
    region_of, allowed = problem.task.region_of, problem.task.allowed
    assert not region_of.any() and allowed.shape == (1, 20) and allowed.all()
    assert text_form(placement_pass("auto")) == "place-auto"
    assert text_form(placement_pass("auto", None, Pins.of({"a": "core:3"}))) == "place-auto{pins=a=core:3}"


@pytest.mark.parametrize("seed", range(20))
def test_matching_finds_sites_exactly_where_there_are_some(seed):
    rng = np.random.default_rng(seed)
    sites, count = 6, int(rng.integers(3, 7))
    regions = [frozenset(np.flatnonzero(rng.random(sites) < 0.35).tolist()) for _ in range(count)]
    crowds, site_of = matched(regions)

    def possible(rest: list[frozenset[int]], taken: frozenset[int]) -> bool:
        return not rest or any(possible(rest[1:], taken | {site}) for site in rest[0] - taken)

    assert bool(crowds) != possible(regions, frozenset())
    if not crowds:
        assert len(set(site_of)) == count and all(site in r for site, r in zip(site_of, regions, strict=True))
    for crowd in crowds:
        assert len(crowd.clusters) > len(crowd.sites)
        assert all(regions[number] <= crowd.sites for number in crowd.clusters)


def test_clusters_without_a_region_take_what_is_left():
    regions = [None, frozenset({0, 1}), None, frozenset({0})]
    assert matched(regions) == ((), (2, 1, 3, 0))
