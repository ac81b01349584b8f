"""An integer network as plain layers in PyTorch: what the simulators of other tools are given.

The file of `peers_simulation.py` holds, for layer n, ``w{n}`` (a kernel or a matrix), ``stride{n}``, ``pads{n}``,
``groups{n}``, ``shift{n}``, ``theta{n}``, ``bias{n}`` and ``v0{n}`` by channel in units of v; the last layer only adds
up and has no theta. Numbers are float32, in which all of these sums are exact.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

UNIT = 64.0
"""Units of v per unit of a sum (docs/arithmetic.md)."""


@dataclass(frozen=True, eq=False)
class Layer:
    """Synapses and the numbers of their neurons, by channel."""

    weight: torch.Tensor
    stride: int
    pads: int
    groups: int
    shift: int
    theta: torch.Tensor | None
    bias: torch.Tensor
    v0: torch.Tensor

    def current(self, x: torch.Tensor) -> torch.Tensor:
        """What a step of messages adds to v: (N, C, ...)."""
        if self.weight.dim() == 2:
            total = x.flatten(1) @ self.weight.T
        else:
            total = functional.conv2d(x, self.weight, None, self.stride, self.pads, 1, self.groups)
        if self.shift:
            total = torch.floor(total * 2.0**-self.shift)
        return total * UNIT + self.bias


@dataclass(frozen=True, eq=False)
class Chain:
    """A network without branches.

    Attributes:
        images: (N, C, H, W) integer messages, the same in every step.
        steps: T.
    """

    layers: tuple[Layer, ...]
    images: torch.Tensor
    steps: int


def read(path: str) -> Chain:
    """The chain of a file."""
    given = np.load(path)
    layers = []
    for n in range(int(given["layers"])):
        weight = torch.from_numpy(given[f"w{n}"].astype(np.float32))
        spread = (1, -1, 1, 1) if weight.dim() == 4 else (1, -1)
        held = {
            name: torch.from_numpy(given[f"{name}{n}"].astype(np.float32)).reshape(spread)
            for name in ("theta", "bias", "v0")
            if f"{name}{n}" in given
        }
        numbers = (int(given[f"{name}{n}"]) for name in ("stride", "pads", "groups", "shift"))
        layers.append(Layer(weight, *numbers, held.get("theta"), held["bias"], held["v0"]))
    return Chain(tuple(layers), torch.from_numpy(given["images"].astype(np.float32)), int(given["timesteps"]))


Run = Callable[[torch.Tensor], list[torch.Tensor]]
"""Spikes of every layer by image, (N,) each, and the read-out (N, classes), of (N, ...) images."""


def measured(forms: dict[str, Run], chain: Chain, batches: tuple[int, ...] = (1, 16), repeats: int = 5) -> dict:
    """Milliseconds per image of every form and batch, medians of processor time; and answers of the first images."""
    found: dict[str, float] = {}
    answers: dict[str, list[list[float]]] = {}
    with torch.inference_mode():
        for name, run in forms.items():
            run(chain.images[:1])
            for batch in batches:
                parts = [part for part in chain.images.split(batch) if len(part) == batch][:repeats]
                times = []
                for part in parts:
                    begin = time.process_time()
                    run(part)
                    times.append(1000 * (time.process_time() - begin) / batch)
                if times:
                    found[f"{name}, batch {batch}"] = round(statistics.median(times), 3)
            answers[name] = [values.reshape(-1).tolist() for values in run(chain.images[:2])]
    return {"ms": found, "answers": answers}
