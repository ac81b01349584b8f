"""What the mapped program answers after each step, against ONNX Runtime: how accuracy grows with the timesteps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nmc.ir.connectivity import Array, size
from nmc.ir.network import Network
from nmc.ir.neurons import Graded, GradedReLU, SigmaDelta
from nmc.ir.reference import answers, decode
from nmc.kernels.mapped_tables import build_tables
from nmc.runtime.accuracy import CurvePoint
from nmc.runtime.artifact import Artifact
from nmc.runtime.labels import judges
from nmc.runtime.simulator import execute
from nmc.runtime.tables import TextTable, share

VALUES_MAX = 1 << 22
"""Input values in flight."""


def over_steps(artifact: Artifact, inputs: Array, wanted: Sequence[Array]) -> tuple[CurvePoint, ...]:
    """Agreement and error of the first output after 1 ... T input steps.

    Read-outs that add up over the steps are taken for their rates: times ``T / t``.

    Args:
        artifact: what to run.
        inputs: (N, *network.input_shape) int64.
        wanted: of the outputs, in order, (N, *output shape): ONNX Runtime's.
    """
    network, program = artifact.network, build_tables(artifact.routed)
    batch = max(1, VALUES_MAX // size(network.input_shape))
    curves = [
        (execute(program, inputs[first : first + batch], curve=True).curves or ())[0]
        for first in range(0, len(inputs), batch)
    ]
    curve, by_class = np.concatenate(curves), judges(network)[0].by_class
    onnx = np.asarray(wanted[0], dtype=np.float64).reshape(len(inputs), -1)
    power, points = float(np.square(onnx).sum()) or 1.0, []
    for step in range(1, curve.shape[1] + 1):
        values = decode(network, curve[:, step - 1] * _elapsed(network, step)).reshape(len(inputs), -1)
        agreed = float((answers(network, values) == answers(network, onnx)).mean()) if by_class else None
        error = float(np.sqrt(np.square(values - onnx).sum() / power))
        points.append(CurvePoint(step, None, agreed, error))
    return tuple(points)


def _elapsed(network: Network, step: int) -> float:
    """What the rate of a read-out is multiplied with: 1 where it does not add up over the steps."""
    sums = not isinstance(network.by_name[network.output.population].neuron, Graded | GradedReLU | SigmaDelta)
    return network.timesteps / step if sums else 1.0


def over_steps_table(points: Sequence[CurvePoint], samples: int) -> TextTable:
    """Powers of two, and all."""
    last = points[-1].timesteps
    rows = tuple(
        (str(p.timesteps), share(p.agreement), "-" if p.nrmse is None else f"{p.nrmse:.4f}")
        for p in points
        if p.timesteps & (p.timesteps - 1) == 0 or p.timesteps == last
    )
    columns = ("#timesteps", "#agrees with onnx", "#nrmse")
    return TextTable(f"if read out earlier, {samples:,} samples", columns, rows)
