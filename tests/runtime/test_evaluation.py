"""Accuracy by stage: right numbers, batches that do not matter, a gate that bites."""

from __future__ import annotations

import json
from dataclasses import replace
from multiprocessing import Pipe
from typing import Any

import numpy as np
import pytest

from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.reference import encode, run
from nmc.runtime import evaluation as module
from nmc.runtime import stages
from nmc.runtime.accuracy import OutputResult, StageResult
from nmc.runtime.data import Data
from nmc.runtime.device import Counters
from nmc.runtime.evaluation import STAGES, Evaluation, evaluate
from nmc.runtime.gate import check_gate
from nmc.runtime.oracle import OnnxOracle
from nmc.runtime.session import add_counters
from tests.runtime.artifacts import residual_artifact, samples

X = samples(50, seed=4)


def labelled(x: Any = X, shift: int = 0) -> Data:
    answer = OnnxOracle(residual_artifact().source_onnx).run(x).argmax(axis=1)
    return Data(x, (answer + shift) % 5, "npz", "")


@pytest.mark.parametrize("coding", ["rate", "graded"])
def test_stages_follow_onnx(coding: str) -> None:
    artifact = residual_artifact(coding)
    result = evaluate(artifact, labelled())
    assert [s.stage for s in result.stages] == list(STAGES) and result.samples == 50
    onnx, simplified, spiking, quantized, mapped = result.stages
    assert onnx.top1 == onnx.agreement == 1.0 and onnx.nrmse == 0.0
    assert simplified.agreement == 1.0 and 0 < simplified.nrmse < 1e-5
    assert 1e-4 < spiking.nrmse < 0.15 and 1e-4 < quantized.nrmse < 0.15
    assert mapped == replace(quantized, stage="mapped")
    assert mapped.top1 is not None and mapped.top1 == mapped.agreement >= 0.9


def test_curve_ends_at_the_mapped_row_and_rises() -> None:
    result = evaluate(residual_artifact(), labelled(), stages=["mapped"])
    assert [p.timesteps for p in result.curve] == list(range(1, 33))
    assert result.curve[-1].top1 == result.stages[0].top1
    assert result.curve[0].top1 < result.curve[-1].top1  # type: ignore[operator]
    artifact = residual_artifact()
    trace = [run(artifact.network, s) for s in encode(artifact.network, X[:10])]
    want = np.mean(
        [
            (t.potentials["logits"][4] * artifact.network.output.scale).argmax() == y
            for t, y in zip(trace, labelled().y, strict=False)  # type: ignore[arg-type]
        ]
    )
    ten = evaluate(artifact, labelled(X[:10]), stages=["mapped"])
    assert ten.curve[4].top1 == want


def test_wrong_labels_count_as_wrong() -> None:
    result = evaluate(residual_artifact(), labelled(shift=1))
    onnx, *_, mapped = result.stages
    assert onnx.top1 == 0.0 and mapped.agreement >= 0.9 and mapped.top1 is not None and mapped.top1 <= 0.1


def test_without_labels_top1_is_null() -> None:
    document = evaluate(residual_artifact(), Data(X, None, "npy", "")).to_dict()
    text = json.loads(json.dumps(document, allow_nan=False))
    assert [s["top1"] for s in text["stages"]] == [None] * 5
    assert {p["top1"] for p in text["curve"]} == {None}


def test_json_contract() -> None:
    document = evaluate(residual_artifact(), labelled()).to_dict()
    keys = "samples stages curve outputs stopping spikes_per_inference synops_per_inference seconds samples_per_second"
    assert list(document) == keys.split()
    assert list(document["stages"][0]) == ["stage", "top1", "agreement", "nrmse"]  # type: ignore[index]
    assert list(document["curve"][0]) == ["timesteps", "top1", "agreement", "nrmse"]  # type: ignore[index]
    (output,) = document["outputs"]  # type: ignore[misc]
    assert list(output) == ["output", "classes", "against", "stages", "curve"]
    assert (output["output"], output["classes"], output["against"]) == ("logits", True, "onnx")
    assert output["stages"] == document["stages"] and output["curve"] == document["curve"]
    assert document["samples_per_second"] == pytest.approx(50 / document["seconds"])  # type: ignore[operator]


def test_batches_and_threads_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    artifact, data = residual_artifact(), labelled()
    whole = evaluate(artifact, data)
    monkeypatch.setattr(module, "BATCH_MAX", 7)
    parts = evaluate(artifact, data, threads=1)
    for a, b in zip(whole.stages, parts.stages, strict=True):
        assert (a.top1, a.agreement) == (b.top1, b.agreement) and a.nrmse == pytest.approx(b.nrmse, abs=1e-12)
    assert whole.curve == parts.curve and whole.counters == parts.counters
    assert whole.counters is not None and whole.counters.samples == 50


def test_counters_are_those_of_the_mapped_run() -> None:
    artifact = residual_artifact()
    result = evaluate(artifact, labelled(X[:3]), stages=["mapped"])
    traces = [run(artifact.network, s) for s in encode(artifact.network, X[:3])]
    spikes = sum(int(np.count_nonzero(m)) for t in traces for m in t.messages.values())
    assert result.to_dict()["spikes_per_inference"] == spikes / 3
    assert result.counters is not None and result.counters.spikes == spikes


def test_progress_reaches_the_end() -> None:
    calls: list[tuple[str, float]] = []
    evaluate(residual_artifact(), labelled(), progress=lambda text, done: calls.append((text, done)))
    fractions = [done for _, done in calls]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert {text for text, _ in calls} == {"evaluate"}


def test_without_the_mapped_stage_nothing_is_counted() -> None:
    result = evaluate(residual_artifact(), labelled(), stages=["quantized", "onnx"])
    assert [s.stage for s in result.stages] == ["onnx", "quantized"]
    assert result.counters is None and result.curve == () and result.to_dict()["spikes_per_inference"] is None


def test_unknown_stages_and_labels_are_refused() -> None:
    with pytest.raises(NmcError, match="'spikng'") as caught:
        evaluate(residual_artifact(), labelled(), stages=["spikng"])
    assert caught.value.exit_code is ExitCode.USAGE
    for bad in (np.full(50, 5), np.full(50, -1)):
        with pytest.raises(NmcError, match="classes 0 to 4") as caught:
            evaluate(residual_artifact(), Data(X, bad, "npz", ""))
        assert caught.value.exit_code is ExitCode.USAGE


def made(onnx: float | None, mapped: float | None, agreement: float = 1.0) -> Evaluation:
    rows = (StageResult("onnx", onnx, 1.0, 0.0), StageResult("mapped", mapped, agreement, 0.1))
    return Evaluation(1000, (OutputResult("y", True, "onnx", rows),), None, 1.0)


def valued(onnx: float, mapped: float, against: str) -> Evaluation:
    rows = (StageResult("onnx", None, None, onnx), StageResult("mapped", None, None, mapped))
    return Evaluation(1000, (OutputResult("y", False, against, rows),), None, 1.0)


@pytest.mark.parametrize(
    "result,points,passes",
    [
        (made(0.991, 0.989), 0.2, True),
        (made(0.991, 0.988), 0.2, False),
        (made(0.991, 0.995), 0.0, True),
        (made(None, None, 0.99), 1.0, True),
        (made(None, None, 0.98), 1.0, False),
        (valued(0.2, 0.204, "labels"), 2.0, True),
        (valued(0.2, 0.2042, "labels"), 2.0, False),
        (valued(0.2, 0.1, "labels"), 0.0, True),
        (valued(0.0, 0.1, "labels"), 99.0, False),
        (valued(0.0, 0.0, "labels"), 0.0, True),
        (valued(0.0, 0.02, "onnx"), 2.0, True),
        (valued(0.0, 0.03, "onnx"), 2.0, False),
    ],
)
def test_gate(result: Evaluation, points: float, passes: bool) -> None:
    findings = check_gate(result, points)
    assert (not findings) == passes
    for finding in findings:
        assert finding.slug == "accuracy-gate" and finding.severity == "error" and f"{points:g}" in finding.message


def test_gate_needs_its_stages() -> None:
    assert check_gate(Evaluation(1, (OutputResult("y", True, "onnx", ()),), None, 1.0), 5.0)


def test_gate_holds_every_output() -> None:
    good, bad = made(0.9, 0.9).outputs[0], replace(valued(0.1, 0.2, "labels").outputs[0], name="score")
    (finding,) = check_gate(Evaluation(1000, (good, bad), None, 1.0), 5.0)
    assert "of 'score'" in finding.message and "100.00 per cent" in finding.message


def test_counters_add_up() -> None:
    a = Counters(spikes=1, synops_by_core={0: 2, -1: 1}, samples=1)
    b = Counters(spikes=5, synops_by_core={0: 3, 7: 4}, samples=2)
    total = add_counters(a, b)
    assert total.spikes == 6 and total.samples == 3 and dict(total.synops_by_core) == {0: 5, -1: 1, 7: 4}


def test_any_number_of_workers_and_any_budget_give_the_same() -> None:
    artifact, data = residual_artifact(), labelled(X[:12])
    alone = evaluate(artifact, data)
    network = artifact.network
    each = 8 * (sum(int(np.prod(layer.shape)) for layer in artifact.graph.layers) + network.timesteps * 5)
    for other in (evaluate(artifact, data, workers=2, memory=5 * each), evaluate(artifact, data, memory=each)):
        assert other.outputs == alone.outputs and other.counters == alone.counters


def test_errors_and_ends_of_workers_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    artifact, inputs = residual_artifact(), X[:4]
    with stages.open_programs(artifact, ["mapped"], None, 2) as runner:
        done = list(runner(iter([inputs[:2], inputs[2:], inputs[:1]])))
        assert [len(batch.outputs["mapped"][0]) for batch in done] == [2, 2, 1]
        # Samples of another shape: the worker fails and says how.
        with pytest.raises(Exception, match=r"shape|size"):
            list(runner(iter([inputs[:, :, :2]])))
    monkeypatch.setattr(stages.Artifact, "save", lambda self, path: path.write_bytes(b"no artifact"))
    with stages.open_programs(artifact, ["mapped"], None, 2) as runner, pytest.raises(NmcError) as failure:
        list(runner(iter([inputs])))
    assert failure.value.exit_code is not ExitCode.MISSING


def test_a_worker_that_is_lost_is_named() -> None:
    near, far = Pipe()
    far.close()
    with pytest.raises(NmcError) as failure:
        list(stages._in_turn([near], iter([X[:1]])))
    assert failure.value.diagnostics[0].slug == "worker-lost"


def test_a_budget_below_one_sample_is_refused() -> None:
    with pytest.raises(NmcError) as failure:
        evaluate(residual_artifact(), labelled(), memory=100)
    assert failure.value.diagnostics[0].slug == "memory-budget" and failure.value.exit_code is ExitCode.MODEL
    assert "100" in failure.value.diagnostics[0].message
