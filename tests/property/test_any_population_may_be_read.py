"""Any set of populations may be read out: the mapping and the quick kernels give the reference's read-outs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nmc.ir.network import Network, OutputSpec
from nmc.ir.neurons import Source
from nmc.ir.reference import run
from nmc.ir.verify import verify_program
from nmc.kernels.layerwise import execute_network
from nmc.runtime.simulator import simulate
from nmc.testing.random_networks import random_inputs, random_network
from tests.property.random_mapping import random_mapping


def reading_all(network: Network) -> Network:
    """The network with every population as an output, the last ones twice."""
    read = [p for p in network.populations if not isinstance(p.neuron, Source)]
    specs = [OutputSpec(p.name, np.ones(()), p.shape, name=f"{p.name}/{n}") for n in (0, 1) for p in read[n * 2 :]]
    return replace(network, outputs=tuple(specs))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["rate", "graded", "lif-leak", "reset-zero"])
def test_all_read_outs_are_the_references(kind: str, seed: int) -> None:
    network = reading_all(random_network(seed, kind=kind))
    verify_program(network)
    inputs = random_inputs(network, 2, seed)
    mapped, quick = simulate(random_mapping(network, seed), inputs), execute_network(network, inputs)
    for number, sample in enumerate(inputs):
        wanted = run(network, sample).readouts
        assert len(wanted) == len(network.outputs) == len(mapped.readouts) == len(quick.readouts)
        for spec, last, ours, theirs in zip(network.outputs, wanted, mapped.readouts, quick.readouts, strict=True):
            assert np.array_equal(ours[number], last), spec.name
            assert np.array_equal(theirs[number], last), spec.name
