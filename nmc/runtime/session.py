"""Run an artifact on a device: floats in, floats out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields

from nmc.ir.connectivity import Array
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.network import Network
from nmc.ir.reference import answers, decode, encode
from nmc.runtime.artifact import Artifact
from nmc.runtime.device import Counters, Device, Execution
from nmc.runtime.tables import Shown, TextTable


@dataclass(frozen=True, eq=False)
class RunResult(Shown):
    """What came out of a device.

    Attributes:
        device: its name.
        outputs: (N, *output shape) float64: the read-outs, decoded.
        answers: (N,) int64: the class numbers that they stand for.
        execution: as the device gave it, with the traces that were asked for.
        seconds: wall time of the device.
    """

    device: str
    outputs: Array
    answers: Array
    execution: Execution
    seconds: float

    def tables(self) -> tuple[TextTable, ...]:
        """The answers to the first samples, and what was counted."""
        flat = self.outputs.reshape(len(self.outputs), -1)
        rows = tuple(
            (str(number), str(int(self.answers[number])), f"{values.max():.4g}")
            for number, values in enumerate(flat[:10])
        )
        title = f"{len(flat):,} samples on {self.device} in {self.seconds:.3g} s"
        outputs = TextTable(title, ("#sample", "#answer", "#largest output"), rows)
        counters = self.execution.counters
        if counters is None:
            return (outputs,)
        names = ("spikes", "synops", "neuron_updates", "packets", "hops", "host_ops", "overflows")
        counts = tuple((name.replace("_", " "), f"{getattr(counters, name) / len(flat):,.1f}") for name in names)
        return outputs, TextTable("per inference", ("event", "#count"), counts)

    def to_dict(self) -> dict[str, object]:
        """The form of ``run --json``; ``outputs`` is the path, which the caller knows.

        No device counts cycles; what it cannot count is null.
        """
        counters = self.execution.counters
        names = ("spikes", "synops", "neuron_updates", "packets", "hops")
        return {
            "device": self.device,
            "samples": len(self.outputs),
            "outputs": None,
            "seconds": self.seconds,
            "counters": {name: getattr(counters, name) if counters else None for name in names} | {"cycles": None},
        }


def run(artifact: Artifact, x: Array, device: Device, *, trace: frozenset[str] = frozenset()) -> RunResult:
    """Run samples (N, *input shape of the ONNX file), preprocessed, on a device.

    Args:
        artifact: what to run.
        x: float samples.
        device: where.
        trace: of ``messages``, ``potentials``.

    Raises:
        NmcError: ``device-missing`` (exit 6), or the device failed.
    """
    require(device)
    network = artifact.network
    inputs = encode(network, x)
    begin = time.perf_counter()
    execution = device.execute(artifact, inputs, trace=trace)
    seconds = time.perf_counter() - begin
    outputs = decode(network, execution.readout)
    return RunResult(device.name, outputs, answers(network, outputs), execution, seconds)


def require(device: Device) -> None:
    """Check that a device can run here.

    Raises:
        NmcError: ``device-missing``, exit 6, with what to do.
    """
    reason = device.missing()
    if reason is not None:
        raise NmcError.single(
            "device-missing", f"the device '{device.name}' cannot run here: {reason}", ExitCode.MISSING
        )


def calibrated_range(network: Network) -> tuple[float, float]:
    """Smallest and largest input value that the input code was calibrated for."""
    spec = network.input
    return spec.low * spec.scale, spec.high * spec.scale


def add_counters(a: Counters, b: Counters) -> Counters:
    """The sums of two runs, field by field, mappings key by key."""
    total: dict[str, object] = {}
    for field in fields(Counters):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, Mapping):
            total[field.name] = {key: left.get(key, 0) + right.get(key, 0) for key in (*left, *right)}
        else:
            total[field.name] = left + right
    return Counters(**total)  # type: ignore[arg-type]
