"""The text of small networks after each pass, as it was reviewed.

python -m tests.passes.test_printed    rewrites the texts after a change that was meant
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nmc.ir.layers import LayerGraph
from nmc.ir.printer import format_program
from nmc.passes.align.align_windows import AlignWindows
from nmc.passes.align.host_input import HostInput
from nmc.passes.base import Pass, Program
from nmc.passes.check import CheckMapping
from nmc.passes.convert.convert_graded import ConvertGraded
from nmc.passes.convert.convert_rate import ConvertRate
from nmc.passes.partition import partition_passes
from nmc.passes.place import placement_pass
from nmc.passes.quantize.calibrate_layers import CalibrateLayers
from nmc.passes.quantize.quantize_graded import QuantizeGraded
from nmc.passes.quantize.quantize_rate import QuantizeRate
from nmc.passes.quantize.send_changes import SendChanges
from nmc.passes.route import RouteXY
from nmc.passes.simplify import simplify_passes
from nmc.testing.builders import context_for, exported_graph, residual_graph

FOLDER = Path(__file__).parent / "printed"
MAPPING: tuple[Pass, ...] = (*partition_passes("tiles"), placement_pass("row-major"), RouteXY(), CheckMapping())
PIPELINES: dict[str, tuple[LayerGraph, tuple[Pass, ...]]] = {
    "simplify": (exported_graph(), simplify_passes()),
    "rate": (residual_graph(), (ConvertRate(8), AlignWindows(), CalibrateLayers(), QuantizeRate(), HostInput())),
    "graded": (residual_graph(), (ConvertGraded(), AlignWindows(), QuantizeGraded())),
    "sigma-delta": (residual_graph(), (ConvertGraded(), AlignWindows(), QuantizeGraded(), SendChanges(2))),
    "mapping": (residual_graph(side=4), (ConvertRate(4), AlignWindows(), QuantizeRate(), *MAPPING)),
}


def texts(name: str) -> Iterator[tuple[str, str]]:
    """(file name, text) after each pass that changes something."""
    program: Program
    program, steps = PIPELINES[name]
    x = np.random.default_rng(0).random((8, *program.input.shape)).astype(np.float32)
    context = context_for(program, x)
    printed = 0
    for step in steps:
        before = program
        program = step.run(program, context)
        if program is not before:
            yield f"{name}-{printed:02d}-{step.name}.txt", format_program(program)
            printed += 1


@pytest.mark.parametrize("name", PIPELINES)
def test_printed_programs(name: str) -> None:
    made = dict(texts(name))
    kept = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob(f"{name}-*.txt")}
    assert list(made) == sorted(kept)
    for file, text in made.items():
        assert text == kept[file], file


if __name__ == "__main__":
    for old in FOLDER.glob("*.txt"):
        old.unlink()
    for name in PIPELINES:
        for file, text in texts(name):
            (FOLDER / file).write_text(text, encoding="utf-8")
