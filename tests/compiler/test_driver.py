"""From ONNX file to artifact: what is kept, what is proved, what is said."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nmc.demo
from nmc.backends.api import Options
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.compiler.proof import prove_import, prove_mapping
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.mapping import HOST
from nmc.ir.network import Network
from nmc.ir.neurons import Reset
from nmc.ir.reference import decode, encode
from nmc.kernels.layerwise import execute_network
from nmc.runtime.artifact import Artifact
from nmc.runtime.simulator import simulate

FOLDER = Path(nmc.demo.__file__).parent
MODEL = FOLDER / "digits_cnn.onnx"
CALIB = f"{FOLDER / 'digits_calib.npz'}:64"
REQUEST = CompileRequest("loihi2", Options(timesteps=16), calib=CALIB)


def test_the_artifact_survives_a_round_trip(tmp_path: Path) -> None:
    compiled = compile_file(MODEL, REQUEST)
    assert compiled.artifact is not None
    path = tmp_path / "out.nmc"
    compiled.artifact.save(path)
    loaded = Artifact.load(path)
    inputs = np.random.default_rng(0).integers(0, 255, (3, *loaded.network.populations[0].shape))
    before, after = simulate(compiled.artifact.routed, inputs), simulate(loaded.routed, inputs)
    np.testing.assert_array_equal(before.readout, after.readout)
    assert before.counters == after.counters
    loaded.save(tmp_path / "again.nmc")
    assert (tmp_path / "again.nmc").read_bytes() == path.read_bytes()


def test_accuracy_by_stage_is_near_onnx_runtime() -> None:
    compiled = compile_file(MODEL, replace(REQUEST, calib=str(FOLDER / "digits_calib.npz")))
    assert compiled.accuracy is not None
    top1 = {stage.stage: stage.top1 for stage in compiled.accuracy.stages}
    assert list(top1) == ["onnx", "simplified", "spiking", "quantized", "mapped"]
    assert top1["simplified"] == top1["onnx"]
    assert top1["mapped"] == top1["quantized"]
    assert top1["onnx"] - top1["mapped"] <= 0.03


def test_graded_agrees_with_onnx_runtime() -> None:
    compiled = compile_file(MODEL, replace(REQUEST, options=Options(coding="graded")))
    assert compiled.artifact is not None
    assert compiled.artifact.network.timesteps == 1
    assert compiled.accuracy is not None
    assert compiled.accuracy.stages[-1].agreement >= 0.98


def test_without_calibration_it_says_so() -> None:
    compiled = compile_file(MODEL, replace(REQUEST, calib=None))
    assert any(d.slug == "calibration-missing" for d in compiled.diagnostics)
    assert compiled.artifact is not None
    assert compiled.artifact.manifest["calibration"]["assured"] is False
    with pytest.raises(NmcError) as caught:
        compile_file(MODEL, replace(REQUEST, calib=None, require_calib=True))
    assert caught.value.exit_code is ExitCode.USAGE


def test_labels_never_reach_calibration(tmp_path: Path) -> None:
    data = np.load(FOLDER / "digits_calib.npz")
    artifacts = []
    for number, labels in enumerate((data["y"], np.roll(data["y"], 7))):
        path = tmp_path / f"calib{number}.npz"
        np.savez(path, x=data["x"][:64], y=labels[:64])
        compiled = compile_file(MODEL, replace(REQUEST, calib=str(path)))
        assert compiled.artifact is not None
        out = tmp_path / f"{number}.nmc"
        compiled.artifact.save(out)
        artifacts.append(compiled.artifact)
    left, right = (artifact.network for artifact in artifacts)
    for one, other in zip(left.projections, right.projections, strict=True):
        np.testing.assert_array_equal(one.connectivity.weight, other.connectivity.weight)


def test_stopping_early_gives_the_program_and_no_artifact(tmp_path: Path) -> None:
    compiled = compile_file(MODEL, replace(REQUEST, stop_after="quantize", save_temps=tmp_path / "steps"))
    assert compiled.artifact is None
    assert isinstance(compiled.program, Network)
    assert compiled.program.is_integer
    texts = sorted(path.name for path in (tmp_path / "steps").iterdir())
    assert any("quantize-rate" in name for name in texts)


def test_host_input_moves_operations_off_the_chip() -> None:
    chip = compile_file(MODEL, REQUEST).artifact
    host = compile_file(MODEL, replace(REQUEST, options=Options(timesteps=16, host_input=True))).artifact
    assert chip is not None
    assert host is not None
    inputs = encode(chip.network, np.random.default_rng(1).random((4, *chip.network.input.shape)) * 16)
    on_chip, on_host = simulate(chip.routed, inputs), simulate(host.routed, inputs)
    np.testing.assert_array_equal(on_chip.readout, on_host.readout)
    assert on_chip.counters is not None
    assert on_host.counters is not None
    assert on_chip.counters.host_ops == 0
    assert on_host.counters.host_ops > 0
    assert on_host.counters.synops + on_host.counters.host_ops == on_chip.counters.synops
    assert any(cluster.id == HOST for cluster in host.routed.clusters)


@pytest.mark.parametrize("target", ["loihi1", "loihi2"])
def test_reset_to_zero_runs_on_both_chips(target: str) -> None:
    options = Options(timesteps=64, reset=Reset.ZERO)
    artifact = compile_file(MODEL, replace(REQUEST, target=target, options=options)).artifact
    assert artifact is not None
    assert artifact.manifest["microcode"] == []
    data = np.load(FOLDER / "digits.npz")
    x = data["x"][:100].astype(np.float32).reshape(100, *artifact.network.input.shape)
    network = artifact.network
    out = decode(network, execute_network(network, encode(network, x)).readout)
    assert (out.argmax(axis=1) == data["y"][:100]).mean() > 0.8


def test_options_that_the_target_lacks_are_refused() -> None:
    for options in (Options(coding="graded"), Options(reset=Reset.SUBTRACT)):
        with pytest.raises(NmcError) as caught:
            compile_file(MODEL, replace(REQUEST, target="loihi1", options=options))
        assert caught.value.exit_code is ExitCode.USAGE


def test_full_verification_passes_on_the_demo() -> None:
    compiled = compile_file(MODEL, replace(REQUEST, options=Options(timesteps=32), verify="full"))
    assert any(d.slug == "layers-verified" for d in compiled.diagnostics)


def test_a_wrong_import_is_found_and_named() -> None:
    from nmc.compiler.frontends.onnx import read_model

    model = read_model(MODEL)
    layers = list(model.graph.layers)
    at = next(i for i, entry in enumerate(layers) if hasattr(entry.op, "connectivity"))
    op = layers[at].op
    connectivity = op.connectivity.with_weight(op.connectivity.weight[..., ::-1].copy())
    layers[at] = replace(layers[at], op=replace(op, connectivity=connectivity))
    broken = replace(model, graph=replace(model.graph, layers=tuple(layers)))
    x = np.random.default_rng(0).random((4, *model.graph.input.shape), dtype=np.float32)
    prove_import(model, x)
    with pytest.raises(NmcError, match=layers[at].origin.node):
        prove_import(broken, x)


def test_a_wrong_mapping_is_found() -> None:
    artifact = compile_file(MODEL, REQUEST).artifact
    assert artifact is not None
    x = np.random.default_rng(0).random((4, *artifact.network.input.shape)) * 16
    routed = artifact.routed
    prove_mapping(routed, x)
    with pytest.raises(NmcError, match="differs from the network"):
        prove_mapping(replace(routed, routes=routed.routes[len(routed.routes) // 2 :]), x)
