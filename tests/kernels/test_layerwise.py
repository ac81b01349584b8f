"""The layer-wise executor is the reference, faster."""

import numpy as np
import pytest

from nmc.ir import reference
from nmc.kernels.layerwise import execute_network, message_rates
from nmc.testing.random_networks import random_inputs, random_network


@pytest.mark.parametrize("seed", range(60))
def test_every_message_and_potential_equals_the_reference(seed: int) -> None:
    network = random_network(seed)
    inputs = random_inputs(network, 2, seed)
    run = execute_network(network, inputs, counts=True, keep=True, threads=1)
    for index, sample in enumerate(inputs):
        expected = reference.run(network, sample)
        for name, messages in expected.messages.items():
            np.testing.assert_array_equal(run.messages[name][index], messages, err_msg=name)
            np.testing.assert_array_equal(run.counts[name][index], messages.sum(axis=0))
        for name, potentials in expected.potentials.items():
            np.testing.assert_array_equal(run.potentials[name][index], potentials, err_msg=name)
        np.testing.assert_array_equal(run.readout[index], expected.readout)


def test_threads_do_not_change_results() -> None:
    network = random_network(3)
    inputs = random_inputs(network, 9, 3)
    one = execute_network(network, inputs, counts=True, threads=1)
    many = execute_network(network, inputs, counts=True, threads=4)
    np.testing.assert_array_equal(one.readout, many.readout)
    for name, counts in one.counts.items():
        np.testing.assert_array_equal(counts, many.counts[name])


def test_message_rates_count_non_zero_messages() -> None:
    network = random_network(5, kind="rate")
    inputs = random_inputs(network, 3, 5)
    rates = message_rates(network, inputs)
    run = execute_network(network, inputs, keep=True)
    for name, messages in run.messages.items():
        assert rates[name] == pytest.approx(np.count_nonzero(messages) / messages.size, abs=1e-12)
