"""Agreement and error after every step, against the reference and ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from nmc.ir.reference import encode, run
from nmc.runtime.oracle import OnnxOracle
from nmc.runtime.over_steps import over_steps, over_steps_table
from nmc.runtime.verification import verify
from tests.runtime.artifacts import residual_artifact, samples

X = samples(20, seed=11)


def test_every_point_is_what_the_reference_gives() -> None:
    artifact = residual_artifact()
    network, inputs = artifact.network, encode(artifact.network, X)
    wanted = np.asarray(OnnxOracle(artifact.source_onnx).run(X), dtype=np.float64)
    points = over_steps(artifact, inputs, [wanted])
    traces = [run(network, sample).potentials["logits"] for sample in inputs]
    for step, point in enumerate(points, 1):
        values = np.stack([trace[step - 1] for trace in traces]) * network.output.scale * (network.timesteps / step)
        assert point.timesteps == step
        assert point.agreement == (values.argmax(axis=1) == wanted.argmax(axis=1)).mean()
        assert point.nrmse == pytest.approx(np.sqrt(np.square(values - wanted).sum() / np.square(wanted).sum()))
    errors = [p.nrmse for p in points if p.nrmse is not None]
    assert errors[-1] < 0.5 * errors[0] and len(points) == 32
    assert [row[0] for row in over_steps_table(points, 20).rows] == ["1", "2", "4", "8", "16", "32"]


def test_verify_shows_it() -> None:
    result = verify(residual_artifact(), X[:4])
    assert len(result.curve) == 32 and "if read out earlier, 4 samples" in str(result)
    assert result.curve[-1].agreement == 1.0
    graded = verify(residual_artifact("graded"), X[:4])
    assert len(graded.curve) == 1 and "read out earlier" not in str(graded)
