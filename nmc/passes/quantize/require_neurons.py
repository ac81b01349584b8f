"""Neurons that the target does not have are refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nmc.hardware.neuron_models import features, message_bits
from nmc.hardware.target import Target
from nmc.ir.diagnostic import ExitCode
from nmc.ir.network import Network, Population
from nmc.ir.neurons import LIF
from nmc.passes.base import Context

_MEANING = {
    "lif": ("leaky integrate-and-fire neurons", "use --coding graded"),
    "if": ("ideal integrate-and-fire neurons", "use leaky ones without leak (lif)"),
    "graded-relu": ("graded ReLU neurons", "use --coding rate"),
    "signed": ("signed spikes", "use binary spikes, --coding rate"),
    "burst": ("bursts, several spikes in one message", "use one spike a step, --coding rate"),
    "refractory": ("refractory time", "use neurons without refractory time"),
    "sigma-delta": ("sigma-delta neurons", "use --coding graded or --coding rate"),
    "subtract": ("reset by subtraction", "use --reset zero"),
    "zero": ("reset to zero", "use --reset subtract"),
}
"""What each feature is, and what does without it."""


@dataclass(frozen=True)
class RequireNeurons:
    """Refuse neuron models, firing rules and resets that the target does not name.

    Populations on the host may be of any kind.
    """

    name: ClassVar[str] = "require-neurons"
    stage: ClassVar[str] = "quantize"
    consumes: ClassVar[type[Network]] = Network
    produces: ClassVar[type[Network]] = Network

    def run(self, program: Network, context: Context) -> Network:
        """The same network.

        Raises:
            NmcError: (exit 3) neurons that the target lacks, all of them.
        """
        for population in program.populations:
            if population.on_host:
                continue
            for text, instead in _lacking(population, context.target):
                context.diagnostics.error(
                    "neuron-not-on-target",
                    f"{population.name}: {context.target.name} {text}",
                    origin=population.origin,
                    help=f"{instead}, or a target that has them (`nmc targets`)",
                )
        context.diagnostics.raise_errors(ExitCode.MODEL)
        return program


def _lacking(population: Population, target: Target) -> list[tuple[str, str]]:
    """What a target lacks for a population, and what to do instead."""
    limits, neuron = target.neurons, population.neuron
    offered = (*limits.models, *map(str, limits.resets))
    found = [
        (f"has no {_MEANING[feature][0]} (neurons.models and resets: {', '.join(offered)})", _MEANING[feature][1])
        for feature in features(neuron)
        if feature not in offered
    ]
    needed = message_bits(neuron)
    if not found and needed > target.messages.graded_bits:
        has = f"messages of {target.messages.graded_bits} bits, its spikes need {needed}"
        found.append((f"has {has}", "use smaller bursts"))
    longest = limits.refractory_max
    if not found and isinstance(neuron, LIF) and longest is not None and neuron.refractory > longest:
        has = f"has refractory times up to {longest} steps, not {neuron.refractory}"
        found.append((has, f"use at most {longest} steps"))
    return found
