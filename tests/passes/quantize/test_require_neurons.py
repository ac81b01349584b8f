"""Neurons that a target lacks are refused by name, and those that it has pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nmc.hardware.target import Target
from nmc.ir.diagnostic import Diagnostic, ExitCode, NmcError
from nmc.ir.network import Network
from nmc.ir.neurons import LIF, Burst, Reset, SigmaDelta, Signed
from nmc.passes.quantize.require_neurons import RequireNeurons
from nmc.testing.random_networks import KINDS, random_network
from tests.passes.targets import context, loihi

ZERO = np.zeros((), dtype=np.int64)
STOCK = LIF(ZERO + 5, ZERO, ZERO, ZERO, reset=Reset.ZERO)


def refused(network: Network, target: Target) -> list[Diagnostic]:
    with pytest.raises(NmcError) as caught:
        RequireNeurons().run(network, context(target))
    assert caught.value.exit_code is ExitCode.MODEL
    assert {d.slug for d in caught.value.diagnostics} == {"neuron-not-on-target"}
    return list(caught.value.diagnostics)


def with_neuron(neuron: LIF | SigmaDelta) -> Network:
    """A network whose second population has this neuron and whose others any target has."""
    network = random_network(0, kind="reset-zero")
    populations = tuple(replace(p, neuron=neuron) if i == 1 else p for i, p in enumerate(network.populations))
    return replace(network, populations=populations)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("any", "if", "recurrent", "signed", "burst")])
def test_loihi2_has_every_model_but_the_ideal_one(kind: str) -> None:
    network = random_network(0, kind=kind)
    assert RequireNeurons().run(network, context(loihi("loihi2"))) is network


def test_loihi1_has_stock_and_refractory_neurons() -> None:
    for neuron in (STOCK, replace(STOCK, refractory=64)):
        network = with_neuron(neuron)
        assert RequireNeurons().run(network, context(loihi("loihi1"))) is network


@pytest.mark.parametrize(
    "neuron,word,instead",
    [
        (replace(STOCK, fire=Signed(ZERO)), "signed spikes", "--coding rate"),
        (replace(STOCK, fire=Burst(3)), "bursts", "--coding rate"),
        (replace(STOCK, reset=Reset.SUBTRACT), "reset by subtraction", "--reset zero"),
        (replace(STOCK, refractory=65), "refractory times up to 64 steps, not 65", "at most 64"),
        (SigmaDelta(ZERO + 1, ZERO, ZERO), "sigma-delta neurons", "--coding graded"),
    ],
)
def test_loihi1_refuses_by_name(neuron: LIF | SigmaDelta, word: str, instead: str) -> None:
    network = with_neuron(neuron)
    (found,) = refused(network, loihi("loihi1"))
    population = network.populations[1]
    assert population.name in found.message and "loihi1" in found.message and word in found.message
    assert instead in found.help and "nmc targets" in found.help
    assert found.origin == population.origin


def test_every_lack_is_named_at_once() -> None:
    network = with_neuron(replace(STOCK, fire=Burst(3), refractory=2, reset=Reset.SUBTRACT))
    no_rest = replace(loihi("loihi1"), neurons=replace(loihi("loihi1").neurons, models=("lif",)))
    assert len(refused(network, no_rest)) == 3


def test_bursts_need_the_bits_of_their_levels() -> None:
    narrow = loihi("loihi2")
    narrow = replace(narrow, messages=replace(narrow.messages, graded_bits=2))
    network = with_neuron(replace(STOCK, fire=Burst(3)))
    assert RequireNeurons().run(network, context(narrow)) is network
    (found,) = refused(with_neuron(replace(STOCK, fire=Burst(4))), narrow)
    assert "messages of 2 bits, its spikes need 3" in found.message


def test_the_host_computes_anything() -> None:
    network = with_neuron(SigmaDelta(ZERO + 1, ZERO, ZERO))
    populations = tuple(replace(p, on_host=i == 1) for i, p in enumerate(network.populations))
    network = replace(network, populations=populations)
    assert RequireNeurons().run(network, context(loihi("loihi1"))) is network
