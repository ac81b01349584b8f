"""Draws docs/images/demo.svg: the demo network's accuracy and energy, from the pictures of its report.

python scripts/readme_picture.py docs/images/demo.svg
"""

from __future__ import annotations

import argparse
import re
from importlib.resources import files
from pathlib import Path

from nmc.compiler.driver import CompileRequest, compile_file
from nmc.runtime.data import Preprocessing, load_data
from nmc.runtime.evaluation import evaluate
from nmc.runtime.report.core_map import core_map_svg
from nmc.runtime.report.svg import bars, curve, document, label, percent, stacked

MARGIN = 34
"""Above each picture, for its heading."""


def size_of(svg: str) -> tuple[float, float]:
    """Width and height of a picture."""
    found = re.search(r'viewBox="0 0 (\d+) (\d+)"', svg)
    if found is None:
        raise ValueError("the picture has no size")
    return float(found[1]), float(found[2])


def placed(heading: str, left: float, top: float, svg: str) -> str:
    """A picture at a place of a larger one."""
    inner = svg.replace("<svg ", f'<svg x="{left}" y="{top + MARGIN}" ', 1)
    return label(left + 8, top + 20, heading) + inner


def picture(target: str) -> str:
    """The demo on a chip: accuracy by stage and over timesteps, its cores, its energy."""
    folder = Path(str(files("nmc.demo")))
    request = CompileRequest(target, calib=str(folder / "digits_calib.npz"))
    artifact = compile_file(folder / "digits_cnn.onnx", request).artifact
    if artifact is None:
        raise SystemExit("nothing was compiled")
    data = load_data(str(folder / "digits.npz"), artifact.network.input.shape, Preprocessing())
    evaluation = evaluate(artifact, data)
    rows = [(stage.stage, stage.top1, percent(stage.top1)) for stage in evaluation.stages]
    points = [(float(p.timesteps), p.top1) for p in evaluation.curve if p.top1 is not None]
    splits = {
        name: {key: value for key, value in split.items() if key in ("synapse", "neuron", "noc") and value}
        for name, split in artifact.report["energy_nj_per_inference"].items()
        if isinstance(split, dict)
    }
    reference = ("ONNX", evaluation.stages[0].top1 or 0.0)
    left = (
        (f"top-1 by stage, {evaluation.samples} test digits", bars(rows, "accuracy by stage", top=1.0)),
        ("top-1, read out after fewer steps", curve(points, "accuracy over timesteps", "input steps", reference)),
    )
    right = (
        (f"cores in use on {target}, by layer", core_map_svg(artifact.report)),
        ("dynamic energy per inference (estimate)", stacked(list(splits.items()), "energy")),
    )
    body, height, start = "", 0.0, 0.0
    for column in (left, right):
        top = 0.0
        for heading, svg in column:
            body += placed(heading, start, top, svg)
            top += MARGIN + size_of(svg)[1]
        height = max(height, top)
        start += max(size_of(svg)[0] for _, svg in column)
    return document(start, height, body, f"the demo network on {target}")


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--target", default="loihi2")
    arguments = parser.parse_args()
    arguments.out.write_text(picture(arguments.target) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
