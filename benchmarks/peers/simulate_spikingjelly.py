"""SpikingJelly's neurons on our integers: ``python -m peers.simulate_spikingjelly FILE.npz`` (see `peers.layers`)."""

from __future__ import annotations

import json
import sys

import torch
from spikingjelly.activation_based import neuron

from peers.layers import Chain, Layer, measured, read

HALF = 0.5
"""Its neurons fire at the threshold, ours beyond it: potentials are integers, so half a unit less is the same."""


def node(layer: Layer, mode: str) -> neuron.BaseNode:
    """Integrate-and-fire with reset by subtraction; thresholds by channel where the layer has several."""
    if layer.theta is None:
        raise ValueError("a hidden layer without threshold")
    theta = layer.theta.reshape(-1)
    if len(theta.unique()) == 1:
        return neuron.IFNode(v_threshold=float(theta[0]), v_reset=None, step_mode=mode)
    return neuron.ActivationAwareIFNode(v_threshold=theta, v_reset=None, channel_dim=1, step_mode=mode)


def begin(layer: Layer, spiking: neuron.BaseNode, like: torch.Tensor) -> None:
    """Set the initial potentials."""
    spiking.reset()
    spiking.v = (layer.v0 - HALF).expand(like.shape).clone()


def single_step(chain: Chain, nodes: list[neuron.BaseNode], x: torch.Tensor) -> list[torch.Tensor]:
    """Step mode ``s``: the whole network in every step."""
    *hidden, last = chain.layers
    first, counts = hidden[0].current(x), [torch.zeros(len(x)) for _ in hidden]
    out = last.v0.expand(len(x), -1)
    for t in range(chain.steps):
        spikes = x
        for n, (layer, spiking) in enumerate(zip(hidden, nodes, strict=True)):
            current = first if n == 0 else layer.current(spikes)
            if t == 0:
                begin(layer, spiking, current)
            spikes = spiking(current)
            counts[n] = counts[n] + spikes.flatten(1).sum(1)
        out = out + last.current(spikes)
    return [*counts, out]


def multi_step(chain: Chain, nodes: list[neuron.BaseNode], x: torch.Tensor) -> list[torch.Tensor]:
    """Step mode ``m``: all steps of a layer at once."""
    *hidden, last = chain.layers
    sent, counts = x[None], []
    for layer, spiking in zip(hidden, nodes, strict=True):
        current = layer.current(sent.flatten(0, 1)).unflatten(0, sent.shape[:2])
        current = current.expand(chain.steps, *current.shape[1:])
        begin(layer, spiking, current[0])
        sent = spiking(current)
        counts.append(sent.flatten(2).sum((0, 2)))
    return [*counts, last.v0 + last.current(sent.flatten(0, 1)).unflatten(0, sent.shape[:2]).sum(0)]


def main() -> int:
    """Print milliseconds and answers."""
    torch.set_num_threads(1)
    chain = read(sys.argv[1])
    nodes = {mode: [node(layer, mode).eval() for layer in chain.layers[:-1]] for mode in "sm"}
    forms = {
        "single step": lambda x: single_step(chain, nodes["s"], x),
        "multi step": lambda x: multi_step(chain, nodes["m"], x),
    }
    print(json.dumps(measured(forms, chain)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
