"""The form of a hostile case: how to write the file, and what must be said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from tests.compiler.frontends.onnx_models import model_of

Make = Callable[[Path], "onnx.ModelProto | bytes | Path"]


@dataclass(frozen=True)
class Case:
    """One file.

    Attributes:
        make: the model, its bytes, or the path of what was made; the folder is where it will lie.
        slugs: one of them must be among the errors; none: the model is accepted.
        code: exit code of ``nmc check``.
    """

    make: Make
    slugs: tuple[str, ...]
    code: int = 3

    def write(self, folder: Path) -> Path:
        """Make the file in a folder of its own."""
        folder.mkdir()
        made = self.make(folder)
        if isinstance(made, Path):
            return made
        path = folder / "model.onnx"
        path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
        return path


def case(make: Make, *slugs: str, code: int = 3) -> Case:
    return Case(make, slugs, code)


def one(
    op: str,
    inputs: list[str],
    stored: Mapping[str, NDArray[np.generic]] | None = None,
    shape: list[int | str] | None = None,
    **attributes: object,
) -> onnx.ModelProto:
    """A model of one node named ``node``."""
    node = helper.make_node(op, inputs, ["y"], name="node", **attributes)
    return model_of([node], stored or {}, shape or ["N", 2, 8, 8])


def chain(*nodes: onnx.NodeProto, stored: Mapping[str, NDArray[np.generic]] | None = None) -> onnx.ModelProto:
    """A model of nodes from ``x`` (N, 4) to ``y``."""
    return model_of(list(nodes), stored or {}, ["N", 4])
