"""PyTorch alone, in the best forms that we know: ``python -m peers.torch FILE.npz`` (see `peers.layers`)."""

from __future__ import annotations

import json
import sys

import torch

from peers.layers import Chain, Layer, measured, read


def fire(v: torch.Tensor, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The spikes of potentials, and the potentials after them."""
    spikes = (v > theta).float()
    return spikes, v - spikes * theta


def by_step(chain: Chain, x: torch.Tensor) -> list[torch.Tensor]:
    """Step after step; what is constant is computed once."""
    *hidden, last = chain.layers
    first = hidden[0].current(x)
    v: list[torch.Tensor | None] = [None] * len(hidden)
    counts = [torch.zeros(len(x)) for _ in hidden]
    out = last.v0.expand(len(x), -1)
    for _ in range(chain.steps):
        spikes = x
        for n, layer in enumerate(hidden):
            current = first if n == 0 else layer.current(spikes)
            held = v[n]
            spikes, v[n] = fire((layer.v0 if held is None else held) + current, _theta(layer))
            counts[n] = counts[n] + spikes.flatten(1).sum(1)
        out = out + last.current(spikes)
    return [*counts, out]


def by_layer(chain: Chain, x: torch.Tensor) -> list[torch.Tensor]:
    """Layer after layer: one product for all steps of an image."""
    *hidden, last = chain.layers
    sent, counts = x[None], []
    for layer in hidden:
        current = layer.current(sent.flatten(0, 1)).unflatten(0, sent.shape[:2])
        v, steps = layer.v0, []
        for t in range(chain.steps):
            spikes, v = fire(v + current[min(t, len(current) - 1)], _theta(layer))
            steps.append(spikes)
        sent = torch.stack(steps)
        counts.append(sent.flatten(2).sum((0, 2)))
    return [*counts, last.v0 + last.current(sent.flatten(0, 1)).unflatten(0, sent.shape[:2]).sum(0)]


def _theta(layer: Layer) -> torch.Tensor:
    if layer.theta is None:
        raise ValueError("a hidden layer without threshold")
    return layer.theta


def main() -> int:
    """Print milliseconds and answers."""
    torch.set_num_threads(1)
    chain = read(sys.argv[1])
    forms = {"by step": lambda x: by_step(chain, x), "by layer": lambda x: by_layer(chain, x)}
    print(json.dumps(measured(forms, chain)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
