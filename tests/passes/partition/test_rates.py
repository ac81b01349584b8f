"""Rates are measured on as many inputs as take seconds."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.passes.partition import rates
from nmc.passes.partition.rates import measured_rates, sampled
from tests.passes.networks import conv_net
from tests.passes.targets import chip, context


def test_large_networks_are_run_on_fewer_inputs(monkeypatch: pytest.MonkeyPatch):
    network = conv_net()
    inputs = np.random.default_rng(0).random((20, *network.input_shape)).astype(np.float32)
    known = context(chip(), inputs=inputs)
    np.testing.assert_array_equal(sampled(network, known), inputs[: rates.SAMPLES])
    synapses = sum(rates.synapse_bound(p.connectivity) for p in network.projections)
    monkeypatch.setattr(rates, "SYNAPSES", 5 * synapses)
    np.testing.assert_array_equal(sampled(network, known), inputs[:5])
    few = measured_rates(network, known)
    assert few == measured_rates(network, context(chip(), inputs=inputs[:5]))
    assert few != measured_rates(network, context(chip(), inputs=inputs[:4]))
    # One is run whatever it takes.
    monkeypatch.setattr(rates, "SYNAPSES", 1)
    assert len(sampled(network, known)) == 1


def test_without_inputs_there_are_no_rates():
    assert measured_rates(conv_net(), context(chip())) == {}
