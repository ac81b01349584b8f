"""Conversion beside other tools and other rules: points lost against ONNX Runtime on the same test images.

    python benchmarks/peers_conversion.py --data DIR [--python PYTHON] [--samples 1000] [--calib 256]
        [--networks mnist_cnn,cifar_resnet20] [--timesteps 4,8,16,32] [--parts rivals,rules,leak] [--json FILE]

DIR is that of `benchmarks/conversion.py`. Three parts:

* ``rivals``: SpikingJelly and sinabs, in the interpreter PYTHON that has them (``pip install 'nmc[peers]'``; this one
  unless said), over float weights from the same ONNX file; their PyTorch network is compared with ONNX Runtime first.
* ``rules``: the field's rules for thresholds in our own compiler, 8-bit integers of loihi2, with weights and biases as
  they are, with biases corrected, and beside what our calibration makes of it.
* ``leak``: neurons that lose a share of their potential in each step, beside those that do not.

Test images are only ever scored. ``vmse`` is the mean squared error of the outputs over the variance of the float
network's. Steps of a rival are its own; ours take ``total`` steps, pipeline included.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from peers import ask
from peers_networks import Passes, Subject, outputs, subject

from nmc.backends.api import Options
from nmc.ir.neurons import Reset
from nmc.passes.convert.thresholds import RULES

BIASES_ONLY = {"calibrate-layers.refit": "false", "calibrate-layers.rounds": "0"}
"""Weights and thresholds stay those of convert-rate."""

DECAYS = (0, 41, 123, 205, 410)
"""Of 4096 in a step: 0, 1, 3, 5 and 10 %."""

Row = dict[str, object]


def rivals(given: Subject, steps: list[int], python: str) -> Iterator[Row]:
    """The converters of other tools."""
    held = {"model": str(given.model.resolve()), "calib": given.calib, "x": given.x, "wanted": given.wanted}
    for name in ("spikingjelly", "sinabs"):
        found = ask(name, python, timesteps=np.array(steps), **held)
        if "not run" in found:
            yield {"network": given.name, "recipe": name, "not run": found["not run"]}
        for row in found.get("rows", ()):
            answers = np.array(row.pop("answers"))
            yield _row(given, f"{name}: {row.pop('recipe')}", row.pop("timesteps"), answers, **row)


def _row(given: Subject, recipe: str, steps: int, answers: np.ndarray, **more: object) -> Row:
    loss, error = given.lost(answers)
    row: Row = {"network": given.name, "recipe": recipe, "timesteps": steps, "images": len(answers)}
    return row | {"loss": round(loss, 2), "loss_error": round(error, 2)} | more


def _ours(given: Subject, passes: Passes, recipe: str, options: Options, *, calibrated: bool = True) -> Row:
    network = passes.network(options, calibrated=calibrated)
    got = outputs(network, given.x)
    vmse = float(np.square(got - given.wanted).mean() / given.wanted.var())
    total = network.timesteps_total
    return _row(given, recipe, options.timesteps, got.argmax(1), vmse=round(vmse, 4), total=total)


def rules(given: Subject, passes: Passes, steps: list[int]) -> Iterator[Row]:
    """Rules for thresholds by themselves, with corrected biases, and ours."""
    for count in steps:
        yield _ours(given, passes, "ours: calibrated", Options(timesteps=count))
        for rule in RULES:
            for initial in ("0.5", "0"):
                settings = {"convert-rate.threshold": rule, "convert-rate.initial": initial}
                name = f"{rule}, v0 = {'theta/2' if initial == '0.5' else '0'}"
                yield _ours(given, passes, name, Options(timesteps=count, settings=settings), calibrated=False)
            settings = BIASES_ONLY | {"convert-rate.threshold": rule}
            yield _ours(given, passes, f"{rule}, biases corrected", Options(timesteps=count, settings=settings))


def leak(given: Subject, passes: Passes, steps: list[int]) -> Iterator[Row]:
    """Neurons with a leak; the first of each reset has none."""
    for count in steps:
        for reset in Reset:
            for decay in DECAYS:
                options = Options(timesteps=count, reset=reset, settings={"convert-rate.decay": str(decay)})
                yield _ours(given, passes, f"reset {reset}, leak {decay / 40.96:.0f} % a step", options)


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| network | recipe | T | images | points lost | vmse |", "|---|---|--:|--:|--:|--:|"]
    for row in rows:
        head = f"| {row['network']} | {row['recipe']} |"
        if "not run" in row:
            lines.append(f"{head} | | not run ({row['not run']}) | |")
        else:
            loss = f"{row['loss']} ± {row['loss_error']}"
            lines.append(f"{head} {row['timesteps']} | {row['images']} | {loss} | {row.get('vmse', '')} |")
    return "\n".join(lines)


def main() -> int:
    """Print the rows as they are done, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has the extra `peers`")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--calib", type=int, default=256)
    parser.add_argument("--networks", default="mnist_cnn,cifar_resnet20")
    parser.add_argument("--timesteps", default="4,8,16,32")
    parser.add_argument("--parts", default="rivals,rules,leak")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    steps, parts = [int(text) for text in arguments.timesteps.split(",")], arguments.parts.split(",")
    rows: list[Row] = []
    for name in arguments.networks.split(","):
        given = subject(name, arguments.data, arguments.samples, arguments.calib)
        if given is None:
            print(f"{name}: not run (files missing)")
            continue
        passes = Passes.of(given)
        made = {
            "rivals": lambda given=given: rivals(given, steps, arguments.python),
            "rules": lambda given=given, passes=passes: rules(given, passes, steps),
            "leak": lambda given=given, passes=passes: leak(given, passes, steps),
        }
        for part in parts:
            for row in made[part]():
                rows.append(row)
                print(json.dumps(row), flush=True)
                if arguments.json:
                    arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"\n{table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
