"""The network of `benchmarks/simulation_networks.py` in PyTorch, in an interpreter that has it.

    PYTHON benchmarks/simulation_torch.py FILE.npz

FILE holds the weights ``w0 ...``, the thresholds ``theta0 ...``, ``images`` and ``timesteps``. Prints milliseconds
per image of the best form as JSON: step by step or layer by layer, batch 1 or 8, pooling on its own, the
read-out once from counts; and the spikes of every layer, which the caller compares.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import numpy as np
import torch
from torch.nn import functional

REPEATS = 5


def fire(total: torch.Tensor, v: torch.Tensor, theta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of integrate-and-fire: the spikes and the potential."""
    v = v + total
    spikes = (v > theta).float()
    return spikes, v - spikes * theta


def layer(x: torch.Tensor, weight: torch.Tensor, theta: float, steps: int, pool: bool) -> torch.Tensor:
    """All steps of a layer: (T, N, C, H, W) spikes; one product for all of them."""
    flat = x.flatten(0, 1)
    if pool:
        flat = functional.avg_pool2d(flat, 2) * 4
    total = functional.conv2d(flat, weight, padding=1).unflatten(0, (x.shape[0], x.shape[1]))
    v, sent = torch.zeros_like(total[0]), []
    for t in range(steps):
        spikes, v = fire(total[t if len(total) > 1 else 0], v, theta)
        sent.append(spikes)
    return torch.stack(sent)


def by_layer(x: torch.Tensor, weights: list[torch.Tensor], theta: list[float], steps: int) -> list[torch.Tensor]:
    """Spike counts of the layers and the read-out, layer by layer."""
    sent, counts = x[None], []
    for number in range(3):
        sent = layer(sent, weights[number], theta[number], steps, number == 2)
        counts.append(sent.sum(dim=(0, 2, 3, 4)))
    return [*counts, sent.sum(dim=0).flatten(1) @ weights[3].T]


def by_step(x: torch.Tensor, weights: list[torch.Tensor], theta: list[float], steps: int) -> list[torch.Tensor]:
    """The same, step by step."""
    first = functional.conv2d(x, weights[0], padding=1)
    v: list[torch.Tensor | float] = [0.0, 0.0, 0.0]
    counts: list[torch.Tensor | float] = [0.0, 0.0, 0.0]
    total_sent: torch.Tensor | float = 0.0
    for _ in range(steps):
        spikes = x
        for number in range(3):
            if number == 2:
                spikes = functional.avg_pool2d(spikes, 2) * 4
            total = first if number == 0 else functional.conv2d(spikes, weights[number], padding=1)
            spikes, v[number] = fire(total, v[number], theta[number])
            counts[number] = counts[number] + spikes.sum(dim=(1, 2, 3))
        total_sent = total_sent + spikes
    return [*counts, total_sent.flatten(1) @ weights[3].T]


def main() -> int:
    """Print the best form."""
    torch.set_num_threads(1)
    held = np.load(sys.argv[1])
    steps = int(held["timesteps"])
    weights = [torch.from_numpy(held[f"w{n}"].astype(np.float32)) for n in range(4)]
    theta = [float(held[f"theta{n}"]) for n in range(3)]
    images = torch.from_numpy(held["images"].astype(np.float32))
    best: dict[str, float] = {}
    answers = {}
    with torch.inference_mode():
        for name, run in (("by step", by_step), ("by layer", by_layer)):
            for batch in (1, 8):
                parts = images.split(batch)
                run(parts[0], weights, theta, steps)
                times = []
                for part in parts[: max(REPEATS, len(parts) // 2)]:
                    begin = time.process_time()
                    run(part, weights, theta, steps)
                    times.append(1000 * (time.process_time() - begin) / len(part))
                best[f"{name}, batch {batch}"] = statistics.median(times)
            answers[name] = [values[:1].reshape(-1).tolist() for values in run(images[:1], weights, theta, steps)]
    print(json.dumps({"ms": best, "answers": answers}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
