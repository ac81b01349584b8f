"""The text form is stable and tells different programs apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nmc.ir.layers import LayerGraph
from nmc.ir.mapping import Partitioned, Placed
from nmc.ir.printer import format_array, format_program
from nmc.testing.random_networks import random_network
from tests.programs import graph_of_everything, ideal_network, layer, tiny_network, tiny_routed

NETWORK = """\
network tiny timesteps=8 total=12 integer=true
  input InputSpec(population=in, shape=(1 4 4), scale=0.00392157, low=0, high=255)
  output OutputSpec(population=out, scale=[1e-05 2e-05 1e-05], shape=(3))
"""


def test_network_text_is_golden() -> None:
    text = format_program(tiny_network())
    assert text.startswith(NETWORK)
    lines = text.splitlines()
    assert lines[3] == "  population in (1x4x4) start=0 Source scale=0.00392157 @ Conv:node_in"
    assert lines[5].startswith("  population b (2x4x4) start=3 LIF(threshold=90, bias_mant=int64[2x1x1] 0..1 #")
    assert lines[-2] == ("  projection a>b#skip: a -> b delay=2 Skip(weight=[20 30]) (2x4x4)->(2x4x4) @ Conv:node_b")
    assert lines[-1].startswith("  projection b>out: b -> out delay=1 Dense(weight=int64[3x32] -")
    assert len(lines) == 3 + 4 + 5


def test_graph_has_one_line_per_layer() -> None:
    lines = format_program(graph_of_everything()).splitlines()
    assert lines[0] == "graph everything output=soft"
    assert len(lines) == 1 + len(graph_of_everything().layers)
    assert lines[1] == "  x (2x6x6) = Input @ Input:node_x"
    assert lines[6] == "  add (4x6x6) = Add <- relu zeros @ Add:node_add"
    assert lines[10] == "  clipped (4x3x3) = Clip(high=6) <- leaky @ Clip:node_clipped"
    assert lines[12] == "  pad (4x4x2) = Pad(before=(0 1 0), after=(0 0 -1)) <- larger @ Pad:node_pad"


def test_mapping_lists_clusters_axons_and_routes() -> None:
    routed = tiny_routed()
    text = format_program(routed)
    assert text.startswith(
        "routed tiny cores=3\n  cluster host at chip 0 tile (0,0) core 0 neurons=16 in[0:1,0:4,0:4]\n"
    )
    assert "    axons a>b -> slice 0 from [0:2,0:4:2,0:4]+[0:2,1:4:2,0:4] delay=2\n" in text
    assert "  route 0.0 -> 2 from [0:2,0:2,0:4] hops=2 via (0,0) (1,0) (1,1)\n" in text
    assert "  rate a 0.125\n" in text and text.endswith(format_program(routed.network))
    placed = format_program(Placed(routed.network, routed.clusters, routed.rates, routed.places))
    assert "route" not in placed and placed.startswith("placed tiny cores=3\n")
    assert "at chip" not in format_program(Partitioned(routed.network, routed.clusters, routed.rates))


@pytest.mark.parametrize("program", [graph_of_everything, tiny_network, ideal_network, tiny_routed])
def test_text_depends_on_values_only(program) -> None:  # type: ignore[no-untyped-def]
    assert format_program(program()) == format_program(program())


def test_every_weight_shows() -> None:
    network = random_network(3, kind="rate")
    before = format_program(network)
    for number, projection in enumerate(network.projections):
        weight = projection.connectivity.weight.copy()
        weight.reshape(-1)[weight.size // 2] += 2
        changed = replace(projection, connectivity=projection.connectivity.with_weight(weight))
        rest = (*network.projections[:number], changed, *network.projections[number + 1 :])
        after = format_program(replace(network, projections=rest))
        assert [a == b for a, b in zip(before.splitlines(), after.splitlines(), strict=True)].count(False) == 1


def test_names_cannot_break_lines() -> None:
    evil = "x\n  y (1) = Input"
    graph = LayerGraph("g", (layer(evil, graph_of_everything().layers[0].op, (), (1,)),), (evil,))
    text = format_program(graph)
    assert len(text.splitlines()) == 2 and repr(evil) in text


def test_arrays() -> None:
    assert format_array(np.array(3)) == "3"
    assert format_array(np.array([0.5, 2.0])) == "[0.5 2]"
    assert format_array(np.array([[True]])).startswith("bool[1x1] true..true #")
    assert format_array(np.zeros((0, 2))).startswith("float64[0x2] #")
    big = np.arange(10)
    assert format_array(big) == format_array(big[::-1][::-1]) != format_array(big[::-1])
    assert format_array(big.astype(">i8")) == format_array(big)
