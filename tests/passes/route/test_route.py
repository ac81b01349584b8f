"""Routes: exactly the neurons that are heard, along x and then y."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.ir.mapping import HOST, Place, region_mask
from nmc.passes.route.xy import xy_links
from nmc.testing.random_networks import random_network
from tests.passes.networks import SMALL
from tests.passes.targets import chip, mapped, tight


@pytest.mark.parametrize(
    ("ends", "links"),
    [
        (((1, 1), (1, 1)), ((1, 1),)),
        (((0, 0), (2, 1)), ((0, 0), (1, 0), (2, 0), (2, 1))),
        (((2, 1), (0, 0)), ((2, 1), (1, 1), (0, 1), (0, 0))),
        (((3, 2), (3, 0)), ((3, 2), (3, 1), (3, 0))),
    ],
)
def test_links_go_along_x_then_y(ends, links):
    (x0, y0), (x1, y1) = ends
    assert xy_links(Place(0, x0, y0), Place(0, x1, y1)) == links


@pytest.mark.parametrize("network", [*SMALL, 0, 1, 2, 3])
def test_a_neuron_is_routed_to_a_core_if_and_only_if_it_has_a_synapse_there(network):
    program = SMALL[network]() if isinstance(network, str) else random_network(network)
    target = tight(neurons=40, in_axons=400, synapse_bits=100000, out_axons=None, threshold_profiles=None)
    routed = mapped(program, target, placer="hill-climb", chips=4)
    owner = {}
    for cluster in routed.clusters:
        for piece in cluster.slices:
            held = owner.setdefault(piece.population, np.full(program.by_name[piece.population].shape, -9))
            held[tuple(slice(*axis) for axis in piece.box)] = cluster.id
    expected = set()
    for projection in program.projections:
        target, source, _ = projection.connectivity.synapses()
        cores = owner[projection.target].reshape(-1)[target]
        expected |= {(projection.source, int(s), int(c)) for s, c in zip(source, cores, strict=True)}
    found = []
    for route in routed.routes:
        piece = routed.by_id[route.source].slices[route.slice]
        mask = region_mask(route.region, program.by_name[piece.population].shape).reshape(-1)
        assert (owner[piece.population].reshape(-1)[mask] == route.source).all()
        found.extend((piece.population, int(n), route.destination) for n in np.flatnonzero(mask))
        ends = routed.places[route.source], routed.places[route.destination]
        assert route.links == xy_links(*ends)
        assert route.hops == abs(ends[0].x - ends[1].x) + abs(ends[0].y - ends[1].y)
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_host_routes_start_at_the_port():
    routed = mapped(SMALL["host"](), chip(host_port=(3, 2)))
    from_host = [route for route in routed.routes if route.source == HOST]
    assert {route.links[0] for route in from_host} == {(3, 2)}
    inside = [route for route in from_host if route.destination == HOST]
    assert [(route.slice, route.links) for route in inside] == [(0, ((3, 2),))]
    assert {route.slice for route in from_host if route.destination != HOST} == {1}
