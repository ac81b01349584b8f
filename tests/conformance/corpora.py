"""The test models of the ``onnx`` package: 1,884 of single operators and 140 of whole networks.

They come with the installed package; those of single operators are made in memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

Value = NDArray[Any]

CORPORA = ("node", "pytorch-converted", "pytorch-operator", "simple")


@dataclass(frozen=True, eq=False)
class Case:
    """One model with what it should compute.

    Attributes:
        name: unique over all corpora.
        corpus: one of `CORPORA`.
        model: as the package has it.
        inputs, outputs: in the order of the graph; None where a value is no tensor.
        rtol: how near outputs must be, relative to the largest value.
    """

    name: str
    corpus: str
    model: onnx.ModelProto
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value | None, ...]
    rtol: float = 1e-3


def all_cases(corpora: tuple[str, ...] = CORPORA) -> Iterator[Case]:
    """Every case, in the order of the package."""
    for corpus in corpora:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy warns of the overflows that some cases are about
            tests = load_model_tests(kind=corpus)
        for test in tests:
            if test.model is not None:
                (inputs, outputs), *_ = test.data_sets or []
                values = tuple(map(_tensor, inputs)), tuple(map(_tensor, outputs))
                yield Case(test.name, corpus, test.model, *values, rtol=test.rtol)
            else:
                yield _from_folder(test.name, corpus, Path(str(test.model_dir)))


def _tensor(value: object) -> Value | None:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.ndarray | np.generic) else None


def _from_folder(name: str, corpus: str, folder: Path) -> Case:
    model = onnx.load(folder / "model.onnx")
    stored = {tensor.name for tensor in model.graph.initializer}
    data = folder / "test_data_set_0"
    sides = []
    for values, what in ((model.graph.input, "input"), (model.graph.output, "output")):
        read = [v for v in values if v.name not in stored]
        sides.append(tuple(_read(data / f"{what}_{i}.pb", v) for i, v in enumerate(read)))
    return Case(name, corpus, model, sides[0], sides[1])


def _read(path: Path, value: onnx.ValueInfoProto) -> Value | None:
    if value.type.WhichOneof("value") != "tensor_type":
        return None
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))
