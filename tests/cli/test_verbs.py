"""The verbs on the demo network: results on stdout, the JSON contract, files written and no others."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from nmc.runtime.artifact import Artifact
from tests.cli.conftest import DEMO
from tests.cli.invoke import Invoke

STAGES = ["onnx", "simplified", "spiking", "quantized", "mapped"]
CALIB = f"{DEMO / 'digits_calib.npz'}:64"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from nmc.compiler.cli.main import run

    path = tmp_path_factory.mktemp("verbs") / "digits.nmc"
    options = ["--target", "loihi", "--calib", CALIB, "-T", "8", "-o", str(path), "--quiet"]
    assert run(["compile", str(DEMO / "digits_cnn.onnx"), *options]) == 0
    return path


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_compile_alone_works(nmc: Invoke, model: Path) -> None:
    """Without options: the default target, the default name, the warning first."""
    done = nmc("compile", model, "--target", "loihi", "-T", "4")
    assert done.code == 0
    assert done.out.splitlines()[0].startswith("ACCURACY IS NOT ASSURED")
    assert f"nmc compile {model} --target loihi --calib" in done.out.splitlines()[0]
    assert "warning[calibration-missing]" in done.err
    assert os.listdir() == ["digits_cnn.nmc"]
    assert Artifact.load("digits_cnn.nmc").manifest["calibration"]["assured"] is False


def test_compile_summary(nmc: Invoke, model: Path) -> None:
    done = nmc("compile", model, "--target", "loihi", "--calib", CALIB, "-T", "8")
    assert (done.code, done.err) == (0, "")
    assert "NOT ASSURED" not in done.out
    for stage in ("import", "simplify", "convert", "align", "quantize", "partition", "place", "route", "check"):
        assert f"\n{stage} " in done.out
    for words in (
        *("microcode", "on the calibration data:\naccuracy, 64 samples", "fullest resource", "cores: 1 of 128"),
        *("latency: 8 input + 4 pipeline = 12 steps", "(estimate)", "Davies et al.", "201,728 multiply-adds"),
        *("nmc eval digits_cnn.nmc", "relu1", "neuron microcode on hardware"),
    ):
        assert words in done.out, words
    assert len(done.out.splitlines()) < 60


def test_compile_document(nmc: Invoke, model: Path) -> None:
    document = nmc("compile", model, "--target", "loihi", "--calib", CALIB, "-T", "8", "-o", "x.bin", "--json").document
    assert document["command"] == "compile"
    assert os.listdir() == [document["artifact"]] == ["x.bin"]
    assert (document["target"], document["timesteps"]) == ("loihi2", 8)
    assert all(stage["seconds"] >= 0 for stage in document["stages"])
    layers = {layer["name"]: layer for layer in document["layers"]}
    assert set(layers["relu2"]) >= {"name", "op", "neurons", "synapses", "cores", "limit", "rate", "note"}
    assert layers["relu2"]["neurons"] == 24 * 8 * 8
    assert document["cores_used"] == 1 and document["neurons"] == 768 + 1536 + 128 + 10
    assert set(document["traffic"]) == {"packets_per_inference", "hops_mean"}
    assert document["latency"]["timesteps_total"] == 12
    assert set(document["latency"]) >= {"input_steps", "pipeline_steps", "us"}
    energy = document["energy_nj_per_inference"]
    assert energy["low"] <= energy["high"]
    assert set(energy["davies2018"]) == {"total", "static", "synapse", "neuron", "noc", "host"}
    convolutions = 64 * 9 * 12 + 64 * 9 * 12 * 24 + 4 * 9 * 24 * 32
    assert document["ann_baseline"]["macs"] == convolutions + 128 * 10
    assert [row["stage"] for row in document["accuracy"]] == STAGES


def test_compile_stops_where_told(nmc: Invoke, model: Path) -> None:
    done = nmc("compile", model, "--target", "loihi", "--calib", CALIB, "--stop-after", "convert", "--save-temps", "t")
    assert done.code == 0 and os.listdir() == ["t"]
    assert "relu1" in done.out
    names = sorted(os.listdir("t"))
    assert names[0].startswith("00-") and names[-1].endswith("convert-rate.txt")


def test_compile_verifies_fully(nmc: Invoke, model: Path) -> None:
    arguments = ["compile", model, "--target", "loihi", "--calib", CALIB, "--verify", "full", "--json"]
    done = nmc(*arguments)
    assert done.code == 0
    assert "layers-verified" in done.slugs
    assert "verify" in [stage["name"] for stage in done.document["stages"]]


def test_config_file(nmc: Invoke, model: Path, tmp_path: Path) -> None:
    """Keys are options; flags win."""
    Path("nmc.toml").write_text(
        f'target = "loihi1"\ntimesteps = 4\nseed = 3\ncalib = "{CALIB}"\nout = "from_config.nmc"\nquiet = true\n'
        "[set]\nconvert-rate.percentile = 99.0\n"
    )
    done = nmc("compile", model, "--config", "nmc.toml", "-T", "6")
    assert done.code == 0, done.err
    manifest = Artifact.load("from_config.nmc").manifest
    assert manifest["target"]["name"] == "loihi1"
    assert (manifest["timesteps"], manifest["seed"]) == (6, 3)
    assert manifest["options"]["settings"] == {"convert-rate.percentile": "99.0"}


def test_check(nmc: Invoke, model: Path) -> None:
    document = nmc("check", model, "--json").document
    assert document["supported"] is True and document["diagnostics"] == []
    first = document["operators"][0]
    assert (first["op"], first["count"], first["status"], len(first["nodes"])) == ("Conv", 3, "native", 3)
    assert "cores_used" not in document
    fits = nmc("check", model, "--target", "loihi1")
    assert fits.code == 0 and "fits loihi1: about" in fits.out
    assert os.listdir() == []


def test_check_names_every_problem(nmc: Invoke) -> None:
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("LRN", ["x"], ["a"], name="level", size=3),
        helper.make_node("Det", ["a"], ["b"], name="squash"),
        helper.make_node("Sin", ["b"], ["y"], name="\x1b[2Jsin"),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1, 4, 4]) for n in "xy"]
    graph, opsets = helper.make_graph(nodes, "g", ends[:1], ends[1:]), [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), "bad.onnx")
    document = nmc("check", "bad.onnx", "--json").document
    assert document["supported"] is False
    assert sorted(d["origin"]["op"] for d in document["diagnostics"]) == ["Det", "LRN", "Sin"]
    assert all(d["help"] for d in document["diagnostics"])
    done = nmc("check", "bad.onnx")
    assert done.code == 3
    assert "--> LRN 'level'" in done.err and "\x1b" not in done.err + done.out
    assert "3 errors; `nmc explain operator-unsupported`" in done.err


def test_check_that_does_not_fit(nmc: Invoke, model: Path) -> None:
    Path("tiny.toml").write_text(
        '[target]\nname = "tiny"\nfamily = "loihi"\nextends = "loihi1"\n'
        '[core]\nin_axons = 8\n[sources]\n"core.in_axons" = "assumed: a test"\n'
    )
    done = nmc("check", model, "--target", "tiny.toml", "--json")
    assert done.code == 4, done.out
    assert "core-in-axons" in done.slugs
    assert any(d["origin"] and d["origin"]["node"] == "relu2" for d in done.document["diagnostics"])


def test_check_counts_the_cores_of_the_chip(nmc: Invoke, model: Path) -> None:
    keys = {"tiles_x": 1, "tiles_y": 1, "cores_per_tile": 2}
    Path("tiny.toml").write_text(
        '[target]\nname = "tiny"\nfamily = "loihi"\nextends = "loihi1"\n[grid]\n'
        + "".join(f"{key} = {value}\n" for key, value in keys.items())
        + "[sources]\n"
        + "".join(f'"grid.{key}" = "assumed: a test"\n' for key in keys)
    )
    done = nmc("check", model, "--target", "tiny.toml", "--json")
    assert (done.code, done.slugs[0]) == (4, "too-many-cores")


def test_eval(nmc: Invoke, compiled: Path, digits: Path) -> None:
    document = nmc("eval", compiled, "--data", digits, "--samples", "100", "--gate", "5", "--json").document
    assert document["samples"] == 100
    assert [row["stage"] for row in document["stages"]] == STAGES
    assert document["stages"][0]["agreement"] == 1.0
    assert [point["timesteps"] for point in document["curve"]] == list(range(1, 9))
    for key in ("spikes_per_inference", "synops_per_inference", "seconds", "samples_per_second"):
        assert document[key] > 0
    shown = nmc("eval", compiled, "--data", f"{digits}:20").out
    assert "mapped" in shown and "if read out earlier" in shown and "20 samples" in shown
    assert os.listdir() == []


def test_eval_gate(nmc: Invoke, compiled: Path, digits: Path, tmp_path: Path) -> None:
    """Labels that are the mapped network's own mistakes cannot pass a gate of nothing."""
    with np.load(digits) as data:
        flipped = 1.0 - data["x"]
    np.savez("negative.npz", x=flipped)
    done = nmc("eval", compiled, "--data", "negative.npz", "--gate", "0", "--json")
    assert (done.code, done.slugs) == (5, ["accuracy-gate"])
    assert len(done.document["stages"]) == 5
    assert [row["top1"] for row in done.document["stages"]] == [None] * 5


def test_run(nmc: Invoke, compiled: Path, digits: Path) -> None:
    arguments = ["run", compiled, "--data", f"{digits}:12", "-o", "y.out", "--trace", "spikes,potentials"]
    document = nmc(*arguments, "--json").document
    assert (document["device"], document["samples"], document["outputs"]) == ("sim", 12, "y.out")
    assert os.listdir() == ["y.out"]
    counters = document["counters"]
    assert counters["spikes"] > 0 and counters["cycles"] is None
    with np.load("y.out", allow_pickle=False) as saved, np.load(digits) as data:
        assert saved["outputs"].shape == (12, 10)
        assert (saved["outputs"].argmax(1) == data["y"][:12]).mean() > 0.8
        assert saved["spikes/relu1"].shape == (12, 8, 12, 8, 8)
        assert saved["potentials/relu1"].shape == (12, 8, 12, 8, 8)
        assert set(np.unique(saved["spikes/relu1"])) <= {0, 1}
    shown = nmc("run", compiled, "--data", f"{digits}:12").out
    assert "... and 2 more samples" in shown and "12 samples on sim" in shown


@pytest.mark.lava
def test_run_and_verify_on_lava(nmc: Invoke, compiled: Path, digits: Path) -> None:
    on_lava = nmc("run", compiled, "--data", f"{digits}:2", "--on", "lava", "-o", "lava.npz", "--json").document
    assert on_lava["device"] == "lava" and on_lava["counters"]["spikes"] is None
    nmc("run", compiled, "--data", f"{digits}:2", "-o", "sim.npz")
    with np.load("lava.npz") as lava, np.load("sim.npz") as sim:
        np.testing.assert_array_equal(lava["outputs"], sim["outputs"])
    exact = nmc("verify", compiled, "--data", f"{digits}:2", "--on", "lava", "--json").document["bit_exact"]
    assert exact == {"device": "lava", "spikes_equal": True, "potentials_equal": True, "steps": 24}


@pytest.mark.lava
@pytest.mark.parametrize("options", [("signed",), ("burst", "--levels", "3"), ("sigma-delta",)], ids=lambda o: o[0])
def test_every_coding_on_lava(nmc: Invoke, model: Path, digits: Path, options: tuple[str, ...]) -> None:
    data = f"{digits}:32"
    done = nmc(
        "compile",
        model,
        "--target",
        "loihi2",
        "-T",
        "4",
        "--calib",
        data,
        "-o",
        "c.nmc",
        "--json",
        "--coding",
        *options,
    )
    assert done.document["accuracy"][-1]["agreement"] > 0.9
    assert Artifact.load("c.nmc").manifest["options"]["levels"] == (3 if "burst" in options else None)
    exact = nmc("verify", "c.nmc", "--data", f"{digits}:2", "--on", "lava", "--json").document["bit_exact"]
    assert exact == {"device": "lava", "spikes_equal": True, "potentials_equal": True, "steps": 16}


def test_levels_are_for_bursts(nmc: Invoke, model: Path) -> None:
    done = nmc("compile", model, "--target", "loihi2", "--levels", "3", "--json")
    assert (done.code, done.slugs) == (2, ["bad-option"])
    assert "--coding burst" in done.out


def test_missing_lava(nmc: Invoke, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMC_LAVA_PYTHON", "/no/such/python")
    for command in (["run", compiled, "--data", "random:1"], ["verify", compiled]):
        done = nmc(*command, "--on", "lava")
        assert done.code == 6
        assert "nmc doctor --install lava" in done.err
    assert nmc("doctor").code == 0
    rows = {row["name"]: row for row in nmc("doctor", "--json").document["environment"]}
    assert rows["device lava"]["status"] == "missing"
    assert rows["device lava"]["help"] == "nmc doctor --install lava"


def test_verify(nmc: Invoke, compiled: Path, digits: Path) -> None:
    document = nmc("verify", compiled, "--data", f"{digits}:8", "--json").document
    assert [layer["name"] for layer in document["layers"]] == ["image", "relu1", "relu2", "relu3", "fc"]
    assert all(layer["ok"] for layer in document["layers"])
    assert (document["first_bad_layer"], document["bit_exact"]) == (None, None)
    shown = nmc("verify", compiled)
    assert shown.code == 0 and "against ONNX Runtime, 8 samples" in shown.out
    assert "warning[data-random]" in shown.err


def test_verify_names_the_first_bad_layer(
    nmc: Invoke, compiled: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nmc.runtime import verification

    bounds = verification.error_bounds

    def tight(*arguments: object) -> dict[str, float]:
        return {name: bound * (name != "relu2") for name, bound in bounds(*arguments).items()}

    monkeypatch.setattr(verification, "error_bounds", tight)
    done = nmc("verify", compiled, "--data", f"{digits}:4", "--json")
    assert (done.code, done.document["first_bad_layer"]) == (5, "relu2")
    assert done.document["diagnostics"][0]["origin"]["node"] == "relu2"
    assert "OUT OF BOUND" in nmc("verify", compiled, "--data", f"{digits}:4").out


def test_report(nmc: Invoke, compiled: Path, digits: Path) -> None:
    done = nmc("report", compiled)
    assert (done.code, done.out) == (0, "wrote report.html\n")
    plain = Path("report.html").read_text(encoding="utf-8")
    assert plain.startswith("<!DOCTYPE html>") and "<svg" in plain and "over timesteps" not in plain
    document = nmc("report", compiled, "--data", f"{digits}:20", "-o", "with data", "--json").document
    assert [row["stage"] for row in document["accuracy"]] == STAGES
    assert "over timesteps" in Path("with data").read_text(encoding="utf-8")
    assert sorted(os.listdir()) == ["report.html", "with data"]


def test_inspect(nmc: Invoke, compiled: Path, model: Path) -> None:
    onnx = nmc("inspect", model, "--json").document
    assert onnx["kind"] == "onnx"
    assert [layer["op"] for layer in onnx["layers"]][:3] == ["Input", "Linear", "Relu"]
    artifact = nmc("inspect", compiled, "--json").document
    assert artifact["kind"] == "artifact"
    assert artifact["manifest"]["timesteps"] == 8
    assert sum(core["neurons"] for core in artifact["cores"] if core["id"] >= 0) == 2442
    assert [p["name"] for p in artifact["populations"]] == ["image", "relu1", "relu2", "relu3", "fc"]
    assert "relu1[768]" in nmc("inspect", compiled).out
    Path("t.toml").write_text('[target]\nname = "t"\nfamily = "loihi"\nextends = "loihi2"\n')
    assert nmc("inspect", "t.toml", "--json").document["target"]["name"] == "t"
    Path("x.nir").write_bytes(b"\x89HDF\r\n\x1a\n")
    assert nmc("inspect", "x.nir", "--json").slugs == ["not-available-yet"]


def test_demo(nmc: Invoke) -> None:
    done = nmc("demo", "-T", "8")
    assert (done.code, done.err) == (0, "")
    for words in ("test digits", "accuracy, 500 samples", "cores: 1 of 128", "wrote report.html", "dynamic energy"):
        assert words in done.out
    assert os.listdir() == ["report.html"]
