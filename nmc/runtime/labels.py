"""What each output of a network is held against: class numbers, values, or ONNX Runtime alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmc.ir.connectivity import Array, size
from nmc.ir.diagnostic import Diagnostic, ExitCode, NmcError
from nmc.ir.network import Network, OutputSpec
from nmc.ir.reference import classes
from nmc.runtime.data import Data


@dataclass(frozen=True, eq=False)
class Judge:
    """How one output is judged.

    Attributes:
        output: its number.
        name: its name, or ``output`` where the network gives it none.
        by_class: its answer is a class number; else its values count.
        labels: (N,) int64 class numbers, or (N, values) float64; None: ONNX Runtime's output.
    """

    output: int
    name: str
    by_class: bool
    labels: Array | None = None

    @property
    def against(self) -> str:
        """What the error of the values is taken against."""
        return "onnx" if self.by_class or self.labels is None else "labels"

    def part(self, first: int, count: int) -> Array | None:
        """The labels of some samples."""
        return None if self.labels is None else self.labels[first : first + count]


def judges(network: Network, data: Data | None = None) -> tuple[Judge, ...]:
    """How every output of a network is judged on this data.

    ``y_<output>`` of the data belongs to that output, ``y`` to the first.

    Raises:
        NmcError: ``data-labels`` (exit 2): labels that fit neither the classes nor the values of
            their output.
    """
    found = []
    for number, spec in enumerate(network.outputs):
        labels = None if data is None else _labels_of(data, number, spec)
        if labels is None:
            found.append(Judge(number, _name(spec), _has_classes(network, spec)))
        else:
            found.append(_judge(network, number, spec, labels))
    return tuple(found)


def unused_labels(network: Network, data: Data) -> tuple[Diagnostic, ...]:
    """A warning about labels that no output of the network takes."""
    names = [spec.name for spec in network.outputs]
    unused = [f"y_{name}" for name in data.named if name not in names]
    if data.y is not None and names[0] in data.named:
        unused.append("y")
    if not unused:
        return ()
    text = f"the labels {', '.join(repr(name) for name in unused)} belong to no output and are not used"
    return (Diagnostic("data-labels-unused", text, "warning", help=f"outputs: {', '.join(names)}"),)


def _labels_of(data: Data, number: int, spec: OutputSpec) -> Array | None:
    named = data.named.get(spec.name)
    return data.y if named is None and number == 0 else named


def _may_have_classes(spec: OutputSpec) -> bool:
    """Whether an output can be read as one class number: one score per class, or the number itself."""
    count = size(spec.shape)
    if spec.head == "argmax" or (spec.head == "sigmoid" and count == 1):
        return True
    return count > 1 and max(spec.shape) == count


def _has_classes(network: Network, spec: OutputSpec) -> bool:
    """Whether an output has classes, as far as its form tells: one as large as an input reconstructs it."""
    sizes = {size(entry.shape) for entry in network.inputs}
    reconstructs = spec.head in ("", "sigmoid") and size(spec.shape) in sizes
    return _may_have_classes(spec) and not reconstructs


def _judge(network: Network, number: int, spec: OutputSpec, labels: Array) -> Judge:
    if labels.ndim == 1 and labels.dtype.kind in "iu" and _may_have_classes(spec):
        count = classes(network, number)
        if labels.min() < 0 or labels.max() >= count:
            raise _unfit(
                f"labels reach from {labels.min()} to {labels.max()}, {_called(spec)} has the classes 0 to {count - 1}",
                "give class numbers that count from 0",
            )
        return Judge(number, _name(spec), True, labels)
    if spec.head != "argmax" and labels.size == len(labels) * size(spec.shape):
        return Judge(number, _name(spec), False, labels.reshape(len(labels), -1).astype(np.float64))
    wanted = " or ".join(
        [*(["(N,) class numbers"] if _may_have_classes(spec) else []), f"values of shape {('N', *spec.shape)}"]
    )
    kind = "whole numbers" if labels.dtype.kind in "iu" else "real numbers"
    raise _unfit(
        f"labels are {kind} of shape {labels.shape}, {_called(spec)} takes {wanted}".replace("'N'", "N"),
        "give labels of the output's form, or none: the output is then compared with ONNX Runtime's",
    )


def _name(spec: OutputSpec) -> str:
    return spec.name or "output"


def _called(spec: OutputSpec) -> str:
    return f"the output '{spec.name}'" if spec.name else "the network"


def _unfit(message: str, help: str) -> NmcError:
    return NmcError.single("data-labels", message, ExitCode.USAGE, help=help)
