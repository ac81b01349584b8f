"""One mutant or one relation tried."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import onnx

from nmc.backends.api import Options
from nmc.compiler.frontends.onnx import SourceModel, read_model
from nmc.ir import reference
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.kernels.layerwise import execute_network
from nmc.runtime.error_model import error_bounds, inner_values
from tests.fuzz.generator import WORST, RandomModel, amplification
from tests.fuzz.judge import Lowered, Verdict, graph_outputs, lowered, where
from tests.fuzz.oracle import Values, outputs_of, relative_error
from tests.fuzz.relations import RELATIONS, ROUNDED, TURNED

SECONDS = 10
"""Processor time that no file may take."""

LOOSE = 1e-4
"""Of a mutant that ONNX Runtime runs: its weights may be anything."""

REFUSALS = (ExitCode.USAGE, ExitCode.MODEL, ExitCode.DOES_NOT_FIT)


def try_mutant(data: bytes, folder: Path) -> Verdict:
    """A file that may be anything: accepted and right, or refused, in time, with nothing left behind."""
    path = folder / "mutant.onnx"
    path.write_bytes(data)
    before, begin = set(os.listdir(folder)), time.process_time()
    try:
        source = read_model(path)
        found = _accepted(source, data)
    except NmcError as error:
        found = Verdict("refused", error.diagnostics[0].slug)
        if error.exit_code not in REFUSALS:
            found = Verdict("failed", f"exit {int(error.exit_code)} {error.diagnostics[0].slug}; {error}")
    except Exception as error:  # a traceback is what this looks for
        found = Verdict("failed", f"{where(error)}; {error}")
    seconds = time.process_time() - begin
    left = set(os.listdir(folder)) - before
    path.unlink(missing_ok=True)
    if seconds > SECONDS:
        return Verdict("failed", f"{seconds:.0f} s; {found.outcome} {found.reason}")
    return Verdict("failed", f"left behind; {sorted(left)}") if left else found


def _accepted(source: SourceModel, data: bytes) -> Verdict:
    """What was read computes what ONNX Runtime computes, and goes through the passes."""
    rng = np.random.default_rng(5)
    shape = source.graph.inputs
    x = np.concatenate([rng.normal(size=(8, *layer.shape)).reshape(8, -1) for layer in shape], axis=1)
    x = x.reshape(8, *source.graph.input.shape).astype(np.float32) if len(shape) == 1 else x.astype(np.float32)
    integers = any(limits is not None for limits in source.integers)
    if integers:
        x = rng.integers(0, 100, x.shape).astype(np.float32)
    lowered(source, x, "loihi2", Options(coding="graded"))
    wanted = _wanted(data, x) if len(shape) == 1 and not integers else None
    if wanted is None:
        return Verdict("accepted", "not compared")
    error = relative_error(graph_outputs(source.graph, x), wanted)
    if error <= LOOSE or any(layer.op.__class__.__name__ in ("Quantize", "ArgMax") for layer in source.graph.layers):
        return Verdict("accepted", "", {"mutant": error})
    model = onnx.load_model_from_string(data)
    if not amplification(RandomModel(0, model, model, x, wanted, True)) < WORST:
        return Verdict("accepted", "badly conditioned")
    return Verdict("failed", f"mismatch; an accepted mutant differs by {error:.3g}")


def _wanted(data: bytes, x: Values) -> list[Values] | None:
    """What ONNX Runtime makes of the file; None where it does not run, or not in float32."""
    try:
        model = onnx.load_model_from_string(data)
        if model.graph.input[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            return None
        wanted = outputs_of(model, x)
    except Exception:  # ONNX Runtime and protobuf raise classes of their own: the file is not for them
        return None
    return wanted if all(np.all(np.isfinite(values)) for values in wanted) else None


def try_relation(model: RandomModel, name: str, folder: Path) -> Verdict:
    """Two files of one network become the same integers."""
    other = RELATIONS[name](np.random.default_rng([model.seed, 23]), model.model)
    if other is model.model:
        return Verdict("refused", "nothing to change")
    programs: list[Lowered] = []
    for file in (model.model, other):
        path = folder / "model.onnx"
        path.write_bytes(file.SerializeToString())
        try:
            programs.append(lowered(read_model(path), model.x, "loihi2", Options(coding="graded")))
        except NmcError as error:
            if programs:
                return Verdict("failed", f"{name}; the other file is refused: {error}")
            return Verdict("refused", error.diagnostics[0].slug)
        except Exception as error:  # a traceback is a find too
            return Verdict("failed", f"{where(error)}; {error}")
        finally:
            path.unlink()
    return _same(name, programs[0], programs[1], model.x)


def _same(name: str, first: Lowered, second: Lowered, x: Values) -> Verdict:
    one, two = first.network, second.network
    for a, b in zip(one.outputs, two.outputs, strict=True):
        if not np.array_equal(a.scale, b.scale) and name not in ROUNDED:
            return Verdict("failed", f"{name}; the scales of an output differ")
    stored = [sorted(p.connectivity.weight.tobytes() + p.shift.tobytes() for p in n.projections) for n in (one, two)]
    if stored[0] != stored[1] and name not in (*TURNED, *ROUNDED):
        return Verdict("failed", f"{name}; other weights are stored")
    runs = [execute_network(network, reference.encode(network, x[:4])).readouts for network in (one, two)]
    if any(not np.array_equal(a, b) for a, b in zip(*runs, strict=True)):
        if name in ROUNDED:
            return _alike(name, first, second, x[:4])
        return Verdict("failed", f"{name}; the read-outs differ")
    return Verdict("held")


def _alike(name: str, first: Lowered, second: Lowered, x: Values) -> Verdict:
    """The outputs of two networks differ by no more than each of them may differ from its analog network."""
    values, bounds = zip(*(_decoded(lowered, x) for lowered in (first, second)), strict=True)
    for number, (a, b) in enumerate(zip(*values, strict=True)):
        apart, allowed = float(np.sqrt(np.square(a - b).mean())), sum(bound[number] for bound in bounds)
        if not apart <= allowed:
            return Verdict("failed", f"{name}; an output differs by {apart:.3g}, allowed {allowed:.3g}")
    return Verdict("held", measured={"exporters": apart / max(allowed, 1e-12)})


def _decoded(lowered: Lowered, x: Values) -> tuple[list[Values], list[float]]:
    """The real outputs of a network, without their heads, and the bound of each one's rms error."""
    network = lowered.network
    known = {name: np.zeros((1, *network.by_name[name].shape)) for name in network.read_outs}
    known |= inner_values(network, lowered.graph, x, {})
    bounds = error_bounds(network, lowered.spiking, known)
    readouts = execute_network(network, reference.encode(network, x)).readouts
    values = [
        np.asarray(readout * reference.per_channel(spec.scale, network.by_name[spec.population].shape))
        for readout, spec in zip(readouts, network.outputs, strict=True)
    ]
    return values, [bounds[spec.population] for spec in network.outputs]
