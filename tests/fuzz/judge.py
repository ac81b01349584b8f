"""What must hold for every model: it compiles and is right at every level, or is refused by name."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import onnx

from nmc.backends.api import Backend, Options
from nmc.compiler.calibration import CalibrationOracle
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.compiler.frontends.onnx import SourceModel, read_model
from nmc.compiler.plugins import find_target
from nmc.compiler.prove_network import StageProofs
from nmc.hardware.target import Target
from nmc.ir import reference
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError
from nmc.ir.layers import ArgMax, LayerGraph, Quantize
from nmc.ir.network import Network
from nmc.ir.verify import verify_program
from nmc.kernels.graph import execute_graph
from nmc.kernels.layerwise import execute_network
from nmc.passes.base import Context, Hooks, Pass, Program
from nmc.runtime.artifact import Artifact
from nmc.runtime.error_model import error_bounds, inner_values
from nmc.runtime.oracle import OnnxOracle
from nmc.runtime.simulator import simulate
from tests.fuzz.generator import RandomModel
from tests.fuzz.oracle import Values, outputs_of, relative_error

FLOAT_LIMIT = 1e-5
"""Of the graphs over reals, relative to the largest output; ONNX Runtime computes in float32."""

FINE_LIMIT = 1e-3
"""Of 16-bit weights and 24-bit activations."""

FINE = Path(__file__).with_name("fine.toml")

FINE_LEVELS = {"quantize-graded.levels": "1048575", "convert-graded.follow": "false"}
"""Messages of 24 bits that leave room for four times the calibrated range, and are not rounded as the file asks for."""

TIES = 1e-3
"""Share of quantized values that may fall on the other side of a tie."""

PROVED, PROVED_MORE = 2, 16
"""Samples on which passes are proved, as the driver does; the second number where that is cheap."""

JUDGED = 6
"""Samples on which a compiled model is judged."""


class Failed(Exception):
    """A check that does not hold: its name, and what was found."""


@dataclass(frozen=True)
class Verdict:
    """What became of one model.

    Attributes:
        outcome: ``held``, ``refused`` or ``failed``.
        reason: slug and operator of a refusal; check and finding of a failure.
        measured: the largest relative error by check.
    """

    outcome: str
    reason: str = ""
    measured: dict[str, float] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What failures of one kind have in common."""
        return f"{self.outcome}: {self.reason.split(';')[0]}"


def where(error: BaseException) -> str:
    """The kind of an exception and the place that raised it: what finds have in common."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(last.filename).name}:{last.name}"


def judge(model: RandomModel, folder: Path, *, whole: bool = False) -> Verdict:
    """Compile one model in every way and compare each level with the oracle.

    Args:
        model: to judge.
        folder: to write it to.
        whole: map it onto the chip too, with graded messages and with spikes.
    """
    measured: dict[str, float] = {}
    path = folder / "model.onnx"
    path.write_bytes(model.model.SerializeToString())
    try:
        _check_all(model, path, measured, whole=whole)
    except NmcError as error:
        first = error.diagnostics[0]
        what = f"{first.slug} {first.origin.op if first.origin else ''}".strip()
        if error.exit_code in (ExitCode.MODEL, ExitCode.DOES_NOT_FIT):
            return Verdict("refused", f"{what}; {first.message}", measured)
        return Verdict("failed", f"{what}; exit {int(error.exit_code)}: {first.message}", measured)
    except Failed as failed:
        return Verdict("failed", str(failed), measured)
    except Exception as error:  # a traceback is what this looks for
        return Verdict("failed", f"{where(error)}; {error}", measured)
    finally:
        path.unlink(missing_ok=True)
    return Verdict("held", "", measured)


@dataclass(frozen=True, eq=False)
class Lowered:
    """What the passes up to quantization make of a model for one chip."""

    graph: LayerGraph
    spiking: Network
    network: Network


def lowered(source: SourceModel, x: Values, target: str, options: Options) -> Lowered:
    """The programs of a model, as far as they depend on no mapping; every pass is proved, as in a compile.

    Raises:
        NmcError: from a pass.
    """
    backend, chip = found_target(target)
    oracle = CalibrationOracle(source.graph, x, from_data=True)
    levels: dict[type, list[Program]] = {LayerGraph: [source.graph], Network: []}

    def after(step: Pass, program: Program, seconds: float) -> None:
        levels[type(program)].append(program)
        if isinstance(program, LayerGraph):
            oracle.follow(program)

    pipeline = backend.pipeline(chip, options)
    hooks = Hooks(verify_program, after, "quantize", StageProofs(x[:PROVED], x[:PROVED_MORE], chip).after)
    pipeline.run(source.graph, Context(chip, DiagnosticSink(), oracle), hooks)
    graph = levels[LayerGraph][-1]
    networks = [n for n in levels[Network] if isinstance(n, Network)]
    if not isinstance(graph, LayerGraph):
        raise TypeError("levels are kept by their type")
    return Lowered(graph, [n for n in networks if not n.is_integer][-1], networks[-1])


@cache
def found_target(name: str) -> tuple[Backend, Target]:
    """Looked up once: it reads the entry points of all packages."""
    return find_target(name)


def _check_all(model: RandomModel, path: Path, measured: dict[str, float], *, whole: bool) -> None:
    source = read_model(path)
    _within("import", _graph_error(source.graph, model), FLOAT_LIMIT, measured)
    chip = lowered(source, model.x, "loihi2", Options(coding="graded"))
    truth = model.wanted
    if model.exact:
        _within("simplify", _graph_error(chip.graph, model), FLOAT_LIMIT, measured)
    else:
        truth = graph_outputs(chip.graph, model.x)
    _check_bounds(chip, source, model, measured)
    fine = lowered(source, model.x, str(FINE), Options(coding="graded", settings=FINE_LEVELS))
    _within("fine", _network_error(fine.network, chip.graph, model.x, truth), FINE_LIMIT, measured)
    if whole:
        for options in (Options(coding="graded"), Options(timesteps=8, effort="fast")):
            compiled = compile_file(path, CompileRequest("loihi2", options, calib=model.x))
            if compiled.artifact is None:
                raise Failed("no artifact")
            _check_equal(compiled.artifact, model)


def _within(check: str, error: float, limit: float, measured: dict[str, float]) -> None:
    measured[check] = max(measured.get(check, 0.0), error)
    if not error <= limit:
        raise Failed(f"{check}; error {error:.3g}, limit {limit:g}")


def graph_outputs(graph: LayerGraph, x: Values, given: dict[str, Values] | None = None) -> list[Values]:
    """The outputs of an analog network, with the values that are given."""
    values = execute_graph(graph, x, graph.outputs, given or {})
    return [values[name] for name in graph.outputs]


def _given_integers(graph: LayerGraph, model: RandomModel) -> dict[str, Values]:
    """The integers of ONNX Runtime behind each `Quantize`: rounding errors decide its ties.

    Raises:
        Failed: more of them differ than ties explain.
    """
    layers = {la.name: la.origin.output for la in graph.layers if isinstance(la.op, Quantize)}
    if not layers:
        return {}
    twin = onnx.ModelProto()
    twin.CopyFrom(model.twin)
    del twin.graph.output[:]
    twin.graph.output.extend(onnx.ValueInfoProto(name=name) for name in layers.values())
    tensors = outputs_of(twin, model.x)
    given = {
        name: tensor.astype(np.float64).reshape(len(model.x), *graph.by_name[name].shape)
        for name, tensor in zip(layers, tensors, strict=True)
    }
    found = execute_graph(graph, model.x, list(layers), given)
    for name, values in given.items():
        apart = np.abs(found[name] - values)
        if apart.max() > 1 or np.count_nonzero(apart) > max(TIES * apart.size, 2):
            raise Failed(f"import; {np.count_nonzero(apart)} of {apart.size} integers of {name} differ")
    return given


def _is_class(graph: LayerGraph, name: str) -> bool:
    return isinstance(graph.by_name[name].op, ArgMax)


def _graph_error(graph: LayerGraph, model: RandomModel) -> float:
    """Of all outputs; class numbers have no tolerance and are right but for ties."""
    found = graph_outputs(graph, model.x, _given_integers(graph, model))
    real = [i for i, name in enumerate(graph.outputs) if not _is_class(graph, name)]
    for i in set(range(len(found))) - set(real):
        if np.mean(found[i].reshape(-1) != model.wanted[i].reshape(-1)) > 0.05:
            return float("inf")
    return relative_error([found[i] for i in real], [model.wanted[i] for i in real])


def _check_bounds(chip: Lowered, source: SourceModel, model: RandomModel, measured: dict[str, float]) -> None:
    """Every layer of the integer network inside its bound, and the interpreter on the first sample."""
    x, network = model.x[:JUDGED], chip.network
    inputs = reference.encode(network, x)
    run = execute_network(network, inputs, keep=True)
    slow = reference.run(network, inputs[0])
    for a, b in zip(slow.readouts, run.readouts, strict=True):
        if np.any(a != b[0]):
            raise Failed("integers; the interpreter and the kernels differ")
    inner = inner_values(network, chip.graph, x, {})
    wanted = inner | (_tensors(network, chip.graph, source, x) if model.exact else {})
    bounds = error_bounds(network, chip.spiking, wanted)
    for population in network.populations:
        name, shape = population.name, population.shape
        if name not in wanted:
            continue
        reads = [i for i, spec in enumerate(network.outputs) if spec.population == name]
        scale = network.outputs[reads[0]].scale if reads else np.asarray(network.scales[name])
        messages = run.readouts[reads[0]] if reads else run.messages[name].sum(axis=1) / network.timesteps
        error = messages * reference.per_channel(scale, shape) - wanted[name]
        rmse = float(np.sqrt(np.square(error).mean()))
        measured["bound"] = max(measured.get("bound", 0.0), rmse / max(bounds[name], 1e-12))
        if not rmse <= bounds[name]:
            raise Failed(f"bound; {name}: rms {rmse:.3g}, bound {bounds[name]:.3g}")


def _tensors(network: Network, graph: LayerGraph, source: SourceModel, x: Values) -> dict[str, Values]:
    """What ONNX Runtime says of the populations that it has a tensor for, in the same order of elements."""
    oracle = OnnxOracle(source.onnx)
    named = {
        p.name: graph.by_name[p.name].origin.output
        for p in network.populations
        if p.name in graph.by_name
        and graph.by_name[p.name].inputs
        and oracle.knows(graph.by_name[p.name].origin.output)
    }
    tensors = oracle.tensors(x, list(named.values()))
    return {
        name: tensors[tensor].reshape(len(x), *network.by_name[name].shape).astype(np.float64)
        for name, tensor in named.items()
        if tensors[tensor].shape[1:] == network.by_name[name].shape
    }


def _check_equal(artifact: Artifact, model: RandomModel) -> None:
    """The interpreter, the layer-by-layer kernels and the mapped program: the same integers."""
    inputs = reference.encode(artifact.network, model.x[:2])
    fast, mapped = execute_network(artifact.network, inputs), simulate(artifact.routed, inputs)
    for number, sample in enumerate(inputs):
        slow = reference.run(artifact.network, sample)
        for a, b, c in zip(slow.readouts, fast.readouts, mapped.readouts, strict=True):
            if np.any(a != b[number]) or np.any(a != c[number]):
                raise Failed("integers; the interpreter, the kernels and the mapped program differ")


def _network_error(network: Network, graph: LayerGraph, x: Values, truth: list[Values]) -> float:
    """Of the decoded outputs; behind a head, which the host computes exactly, of what it reads."""
    readouts = execute_network(network, reference.encode(network, x)).readouts
    error = 0.0
    for number, name in enumerate(graph.outputs):
        spec = network.outputs[number]
        wanted = truth[number]
        if spec.head:
            wanted = execute_graph(graph, x, [graph.by_name[name].inputs[0]])[graph.by_name[name].inputs[0]]
        scale = reference.per_channel(spec.scale, network.by_name[spec.population].shape)
        error = max(error, relative_error([np.asarray(readouts[number] * scale)], [wanted]))
    return error
