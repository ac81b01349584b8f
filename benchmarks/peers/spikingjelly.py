"""SpikingJelly's converter in its modes: ``python -m peers.spikingjelly FILE.npz``.

FILE holds ``model`` (path of an ONNX file), ``calib`` and ``x`` (N, ...) float32 as the network takes them, ``wanted``
(N, classes) of ONNX Runtime, ``timesteps`` to read out at. Answers by recipe and timesteps, as the mean logits
of the steps, and with SpikingJelly's delayed read-out.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from spikingjelly.activation_based import ann2snn, functional
from torch import nn

from peers.network import load, require_equal, run

BATCH = 100


def recipes(batches: list[torch.Tensor]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Its recipes for networks of ReLUs, by name."""
    rate = ann2snn.RateCodingRecipe
    yield "Max, by layer", lambda: rate(batches, mode="Max")
    yield "99.9 %, by layer", lambda: rate(batches, mode="99.9%")
    yield (
        "99.9 %, by channel, half threshold",
        lambda: rate(batches, mode="99.9%", channel_wise=True, half_threshold=True),
    )
    yield "local threshold balancing", lambda: ann2snn.LocalThresholdBalancingRecipe(batches[:10])


def spike(snn: nn.Module, x: np.ndarray, steps: int) -> np.ndarray:
    """(T, N, classes) logits of every step."""
    parts = []
    with torch.inference_mode():
        for part in torch.from_numpy(x).split(BATCH):
            functional.reset_net(snn)
            parts.append(np.stack([snn(part).numpy() for _ in range(steps)]))
    return np.concatenate(parts, axis=1)


def read(
    outputs: np.ndarray, snn: nn.Module, batches: list[torch.Tensor], steps: int, float_answers: np.ndarray
) -> dict[str, list[int]]:
    """Answers after some steps: from all of them, and from those behind a delay.

    The delay is the one that the tool estimates, and the one in hindsight that agrees best with the float network.
    """

    def behind(start: int) -> np.ndarray:
        return np.asarray(outputs[start:steps].mean(0).argmax(1))

    found = {"": behind(0)}
    delay = min(ann2snn.estimate_delay_start(snn, batches, "cpu", steps), steps - 1)
    found[f"delayed read-out ({delay})"] = behind(delay)
    best = max(range(steps), key=lambda start: (behind(start) == float_answers).mean())
    found[f"best delay in hindsight ({best})"] = behind(best)
    return {name: answers.tolist() for name, answers in found.items()}


def main() -> int:
    """Print the answers."""
    torch.set_num_threads(1)
    given = np.load(sys.argv[1])
    ann, steps = load(str(given["model"])), sorted(int(t) for t in given["timesteps"])
    apart = require_equal(run(ann, given["x"]), given["wanted"])
    batches = list(torch.from_numpy(given["calib"]).split(BATCH))
    float_answers, rows = given["wanted"].argmax(1), []
    for name, recipe in recipes(batches):
        begin = time.process_time()
        snn = ann2snn.Converter(recipe()).convert(load(str(given["model"]))).eval()
        seconds = time.process_time() - begin
        begin = time.process_time()
        outputs = spike(snn, given["x"], steps[-1])
        each = 1e3 * (time.process_time() - begin) / (len(given["x"]) * steps[-1])
        for count in steps:
            for how, answers in read(outputs, snn, batches, count, float_answers).items():
                recipe_name = f"{name}, {how}" if how else name
                rows.append({"recipe": recipe_name, "timesteps": count, "answers": answers})
        rows[-1] |= {"convert_seconds": round(seconds, 1), "ms_per_image_step": round(each, 3)}
    print(json.dumps({"apart": apart, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
