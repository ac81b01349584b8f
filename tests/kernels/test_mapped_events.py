"""Irregular synapses as rows: the same sums and counts as pair by pair."""

import numpy as np
import pytest

from nmc.kernels import mapped_events
from nmc.kernels.mapped import execute_steps
from nmc.kernels.mapped_tables import build_tables
from nmc.kernels.packed_rows import PLACE_BITS, pack
from tests.kernels.loop_networks import NEURONS, loop_inputs, loop_network
from tests.property.random_mapping import random_mapping


@pytest.mark.parametrize("kind", NEURONS)
def test_rows_are_the_pairs_that_they_take_the_place_of(kind, monkeypatch):
    laid = 0
    for seed in range(4):
        routed = random_mapping(loop_network(seed, kind), seed)
        by_rows, by_pairs = build_tables(routed), build_tables(routed)
        with monkeypatch.context() as patch:
            patch.setattr(mapped_events, "_MOST", 0)
            assert by_pairs.events.rows.start[:, -1].max(initial=0) == 0
        inputs = loop_inputs(seed)
        a, b = (execute_steps(program, inputs, keep_messages=True) for program in (by_rows, by_pairs))
        for name in ("messages", "synops", "fired", "changed"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        laid += by_rows.events.rows.start[-1, -1]
    assert laid > 0


def test_no_pair_is_in_both_or_in_none():
    program = build_tables(random_mapping(loop_network(3), 3))
    events, tables = program.events, program.tables
    slots, _, synapses, _ = events.meets
    assert len(slots) + len(events.rest.pairs) == len(tables.pairs)
    assert synapses.sum() + events.rest.pairs[:, 3].sum() == tables.pairs[:, 3].sum()
    packed = events.rows.packed.view(np.int32) >> PLACE_BITS
    assert np.count_nonzero(events.rows.weight) + np.count_nonzero(packed) == synapses.sum()
    assert events.rows.start[-1, -1] == len(events.rows.into) + len(packed)


def test_what_does_not_fit_four_bytes_is_not_packed(monkeypatch):
    into = np.array([0, 5, (1 << PLACE_BITS) - 1], dtype=np.uint32)
    packed = pack(into, np.array([-127, 3, 127], dtype=np.int16))
    np.testing.assert_array_equal(packed & ((1 << PLACE_BITS) - 1), into)
    np.testing.assert_array_equal(packed.view(np.int32) >> PLACE_BITS, [-127, 3, 127])
    assert len(pack(into, np.array([0, 0, 128]))) == 0
    assert len(pack(into + np.uint32(1), np.array([0, 0, 1]))) == 0
    routed = random_mapping(loop_network(0), 0)
    one, other = build_tables(routed), build_tables(routed)
    monkeypatch.setattr(mapped_events, "pack", lambda into, weight: into[:0])
    assert len(other.events.rows.packed) == 0
    monkeypatch.undo()
    assert len(one.events.rows.packed) == len(other.events.rows.into) > 0
    a, b = (execute_steps(program, loop_inputs(0), keep_messages=True) for program in (one, other))
    np.testing.assert_array_equal(a.messages, b.messages)
    np.testing.assert_array_equal(a.synops, b.synops)
