"""The text of a small residual network after each lowering, as it was reviewed.

python -m tests.passes.test_printed    rewrites the texts after a change that was meant
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nmc.ir.network import Network
from nmc.ir.printer import format_program
from nmc.passes.align.align_windows import AlignWindows
from nmc.passes.align.host_input import HostInput
from nmc.passes.base import Pass
from nmc.passes.convert.convert_graded import ConvertGraded
from nmc.passes.convert.convert_rate import ConvertRate
from nmc.passes.quantize.correct_bias import CorrectBias
from nmc.passes.quantize.quantize_graded import QuantizeGraded
from nmc.passes.quantize.quantize_rate import QuantizeRate
from nmc.testing.builders import context_for, residual_graph

FOLDER = Path(__file__).parent / "printed"
PIPELINES: dict[str, tuple[Pass, ...]] = {
    "rate": (ConvertRate(8), AlignWindows(), CorrectBias(), QuantizeRate(), HostInput()),
    "graded": (ConvertGraded(), AlignWindows(), QuantizeGraded()),
}


def texts(coding: str) -> Iterator[tuple[str, str]]:
    """(file name, text) after each pass."""
    graph = residual_graph()
    x = np.random.default_rng(0).random((8, 2, 6, 6)).astype(np.float32)
    context = context_for(graph, x)
    program: object = graph
    for number, step in enumerate(PIPELINES[coding]):
        program = step.run(program, context)
        assert isinstance(program, Network)
        yield f"{coding}-{number}-{step.name}.txt", format_program(program)


@pytest.mark.parametrize("coding", PIPELINES)
def test_printed_programs(coding: str) -> None:
    for name, text in texts(coding):
        assert text == (FOLDER / name).read_text(encoding="utf-8"), name


if __name__ == "__main__":
    for coding in PIPELINES:
        for name, text in texts(coding):
            (FOLDER / name).write_text(text, encoding="utf-8")
