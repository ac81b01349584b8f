"""Sinabs' IAF neurons on our integers: ``python -m peers.simulate_sinabs FILE.npz`` (see `peers.layers`)."""

from __future__ import annotations

import json
import sys

import sinabs.layers as sl
import torch
from sinabs.activation import MembraneSubtract, SingleSpike

from peers.layers import Chain, Layer, measured, read

HALF = 0.5
"""Its neurons may fire at the threshold, ours beyond it: potentials are integers, so half a unit less is the same."""


def node(layer: Layer) -> sl.IAF:
    """One spike a step, reset by subtraction, no lower bound."""
    if layer.theta is None:
        raise ValueError("a hidden layer without threshold")
    return sl.IAF(layer.theta[0], SingleSpike, MembraneSubtract(), min_v_mem=None)


def by_layer(chain: Chain, nodes: list[sl.IAF], x: torch.Tensor) -> list[torch.Tensor]:
    """All steps of a layer at once: (N, T, ...)."""
    *hidden, last = chain.layers
    sent, counts = x[:, None], []
    for layer, spiking in zip(hidden, nodes, strict=True):
        current = layer.current(sent.flatten(0, 1)).unflatten(0, sent.shape[:2])
        current = current.expand(-1, chain.steps, *current.shape[2:])
        spiking.init_state_with_shape((len(x), *current.shape[2:]))
        spiking.v_mem = (layer.v0 - HALF).expand(len(x), *current.shape[2:]).clone()
        sent = spiking(current)
        counts.append(sent.flatten(1).sum(1))
    return [*counts, last.v0 + last.current(sent.flatten(0, 1)).unflatten(0, sent.shape[:2]).sum(1)]


def main() -> int:
    """Print milliseconds and answers."""
    torch.set_num_threads(1)
    chain = read(sys.argv[1])
    nodes = [node(layer) for layer in chain.layers[:-1]]
    print(json.dumps(measured({"IAF": lambda x: by_layer(chain, nodes, x)}, chain)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
