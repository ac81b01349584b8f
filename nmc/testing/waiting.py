"""Networks with waiting populations, made of networks without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nmc.ir.network import Network
from nmc.ir.neurons import IF, LIF


def with_waits(network: Network, seed: int, most: int = 3) -> Network:
    """Some spiking populations wait up to ``most`` steps; windows and delays are matched again.

    Args:
        network: aligned, without loops.
        seed: of the choice.
        most: steps.
    """
    rng = np.random.default_rng([seed, *b"waits"])
    start: dict[str, int] = {}
    sends: dict[str, int] = {}
    for population in network.populations:
        incoming = network.incoming[population.name]
        able = isinstance(population.neuron, LIF | IF) and bool(incoming)
        wait = int(rng.integers(0, most + 1)) if able else 0
        start[population.name] = max((sends[p.source] + p.delay for p in incoming), default=0)
        sends[population.name] = start[population.name] + wait
    populations = tuple(
        replace(p, start=start[p.name], wait=sends[p.name] - start[p.name]) for p in network.populations
    )
    projections = tuple(replace(p, delay=start[p.target] - sends[p.source]) for p in network.projections)
    return replace(network, populations=populations, projections=projections)
