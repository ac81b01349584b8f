"""Irregular synapses as rows: the same sums and counts as pair by pair."""

import numpy as np
import pytest

from nmc.kernels import mapped_events
from nmc.kernels.mapped import execute_steps
from nmc.kernels.mapped_tables import build_tables
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
            assert len(by_pairs.events.rows.into) == 0
        inputs = loop_inputs(seed)
        a, b = (execute_steps(program, inputs, keep_messages=True) for program in (by_rows, by_pairs))
        for name in ("messages", "synops", "fired", "changed"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        laid += len(by_rows.events.rows.into)
    assert laid > 0


def test_no_pair_is_in_both_or_in_none():
    program = build_tables(random_mapping(loop_network(3), 3))
    events, tables = program.events, program.tables
    slots, _, synapses, _ = events.meets
    assert len(slots) + len(events.rest.pairs) == len(tables.pairs)
    assert synapses.sum() + events.rest.pairs[:, 3].sum() == tables.pairs[:, 3].sum()
    assert np.count_nonzero(events.rows.weight) == synapses.sum()
    assert events.rows.start[-1, -1] == len(events.rows.into)
