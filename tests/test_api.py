"""``import nmc``: the verbs, typed; results print as tables and show as HTML."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nmc
import nmc.demo
from nmc.ir.diagnostic import NmcError

FOLDER = Path(nmc.demo.__file__).parent
MODEL = FOLDER / "digits_cnn.onnx"
CALIB = np.load(FOLDER / "digits_calib.npz")
TEST = np.load(FOLDER / "digits.npz")


@pytest.fixture(scope="module")
def compiled():
    return nmc.compile(MODEL, "loihi", calib=CALIB["x"][:64], timesteps=16)


def test_compile_from_arrays_equals_compile_from_a_file(compiled, tmp_path: Path) -> None:
    np.savez(tmp_path / "calib.npz", x=CALIB["x"][:64])
    other = nmc.compile(MODEL, "loihi", calib=tmp_path / "calib.npz", timesteps=16)
    for one, two in zip(compiled.artifact.network.projections, other.artifact.network.projections, strict=True):
        np.testing.assert_array_equal(one.connectivity.weight, two.connectivity.weight)


def test_artifact_verbs(compiled, tmp_path: Path) -> None:
    path = tmp_path / "digits.nmc"
    compiled.artifact.save(path)
    artifact = nmc.load(path)
    result = artifact.run(TEST["x"][:5])
    assert result.outputs.shape == (5, 10)
    evaluation = artifact.eval(TEST["x"][:60], TEST["y"][:60])
    assert evaluation.stage("mapped").top1 > 0.9
    assert artifact.verify(TEST["x"][:4]).ok
    artifact.write_report(tmp_path / "report.html", evaluation)
    assert "<svg" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert nmc.device("sim", artifact).name == "sim"


def test_results_show_themselves(compiled) -> None:
    artifact = compiled.artifact
    results = [compiled, artifact.run(TEST["x"][:3]), artifact.eval(TEST["x"][:8]), artifact.verify(TEST["x"][:2])]
    for result in results:
        assert "\n" in str(result)
        assert result._repr_html_().startswith("<table>")
        assert isinstance(result.to_dict(), dict)
    assert "relu2" in str(compiled)


def test_a_check_shows_itself(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    checked = nmc.check(MODEL)
    assert "can be compiled" in str(checked) and "Conv" in checked._repr_html_()
    assert checked.to_dict()["supported"] is True
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Cos", ["x"], ["y"], name="wave")], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    refused = nmc.check(tmp_path / "m.onnx")
    assert not refused.supported and "cannot be compiled" in str(refused) and "wave" in refused._repr_html_()


def test_a_device_gets_a_row_of_its_own(compiled) -> None:
    evaluation = compiled.artifact.eval(TEST["x"][:20], TEST["y"][:20], device=nmc.device("sim", compiled.artifact))
    assert [stage.stage for stage in evaluation.stages][-2:] == ["mapped", "sim"]
    mapped, device = evaluation.stages[-2:]
    assert (device.top1, device.agreement, device.nrmse) == (mapped.top1, mapped.agreement, mapped.nrmse)


def test_names_are_escaped_in_html() -> None:
    from nmc.runtime.tables import TextTable

    table = TextTable("<b>", ("a", "#n"), (("<script>", "1"),))
    assert "<script>" not in table.html
    assert "<b>" not in table.html


def test_check_and_errors(tmp_path: Path) -> None:
    assert nmc.check(MODEL).supported
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"not a model")
    with pytest.raises(NmcError):
        nmc.compile(wrong, "loihi")
    with pytest.raises(NmcError, match="network takes"):
        nmc.compile(MODEL, "loihi", calib=np.zeros((3, 5)))
    with pytest.raises(NmcError, match="numbers"):
        nmc.compile(MODEL, "loihi", calib=np.array([["a"]]))
    with pytest.raises(NmcError, match="no device"):
        nmc.device("toaster", nmc.compile(MODEL, "loihi", calib=CALIB["x"][:8], timesteps=2).artifact)
    with pytest.raises(AttributeError):
        nmc.nothing  # noqa: B018


def test_importing_nmc_loads_nothing_heavy() -> None:
    code = "import sys, nmc; print(sorted({'numpy', 'onnx', 'numba', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
