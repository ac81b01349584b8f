"""Signed relays are proved: sums are cut up exactly, and a relay holds back one threshold at most."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nmc.compiler.prove_network import StageProofs
from nmc.compiler.prove_relays import relay_problems
from nmc.ir.diagnostic import NmcError
from nmc.ir.network import SUM, Network
from nmc.ir.neurons import LIF
from nmc.passes.partition.split_fan_in import SplitFanIn
from tests.passes.networks import SMALL
from tests.passes.partition.test_signed_relays import inputs_of, signed_chip, split

NAMES = ["conv", "residual", "sparse"]


def relayed(name: str) -> tuple[Network, Network, np.ndarray]:
    """A network, the same with relays, and inputs."""
    network = SMALL[name]()
    inputs = inputs_of(network)
    made, _ = split(network, signed_chip(12), inputs)
    assert made is not network
    return network, made, inputs


def messages(before: Network, after: Network, inputs: np.ndarray) -> list[str]:
    return [message for message, _ in relay_problems(before, after, inputs)]


@pytest.mark.parametrize("name", NAMES)
def test_what_the_pass_makes_is_proved(name):
    before, after, inputs = relayed(name)
    assert messages(before, after, inputs) == []
    # So it is beyond the calibrated range, where a relay may hold more.
    assert messages(before, after, inputs * 1.5) == []


def with_projection(network: Network, name: str, **changes: object) -> Network:
    return replace(
        network, projections=tuple(replace(p, **changes) if p.name == name else p for p in network.projections)
    )


def test_a_weight_that_is_lost_is_found():
    before, after, inputs = relayed("conv")
    relay = next(p for p in after.populations if p.name not in before.by_name)
    (parts,) = after.incoming[relay.name]
    weight = parts.connectivity.weight.copy()
    weight[: len(weight) // 2] = 0
    broken = with_projection(after, parts.name, connectivity=parts.connectivity.with_weight(weight))
    assert any("do not add up" in message for message in messages(before, broken, inputs))


def test_a_spike_that_counts_as_something_else_is_found():
    before, after, inputs = relayed("conv")
    total = next(p for p in after.projections if p.name.endswith(SUM))
    broken = with_projection(after, total.name, shift=total.shift + 1)
    assert any("counts as something else" in message for message in messages(before, broken, inputs))


def test_a_relay_that_holds_back_too_much_is_found():
    before, after, inputs = relayed("conv")
    relay = next(p for p in after.populations if p.name not in before.by_name)
    assert isinstance(relay.neuron, LIF)
    deaf = replace(relay.neuron, fire=replace(relay.neuron.fire, lower=np.array(1 << 22)))
    changed = tuple(replace(p, neuron=deaf) if p is relay else p for p in after.populations)
    found = messages(before, replace(after, populations=changed), inputs * 3)
    assert any("hold back more than one threshold" in message for message in found)


def test_a_layer_that_is_changed_besides_is_found():
    before, after, inputs = relayed("conv")
    untouched = next(p for p in after.projections if any(p.name == q.name for q in before.projections))
    doubled = untouched.connectivity.with_weight(untouched.connectivity.weight * 2)
    broken = with_projection(after, untouched.name, connectivity=doubled)
    assert any("other synapses" in message for message in messages(before, broken, inputs))


def test_the_proof_of_the_stage_uses_it():
    before, after, inputs = relayed("conv")
    total = next(p for p in after.projections if p.name.endswith(SUM))
    proofs = StageProofs(inputs, inputs, signed_chip(12))
    with pytest.raises(NmcError) as caught:
        proofs.after(SplitFanIn("signed"), before, with_projection(after, total.name, shift=total.shift + 1))
    found = [d for d in caught.value.diagnostics if "counts as something else" in d.message]
    assert found and {d.slug for d in found} == {"stage-differs"}
