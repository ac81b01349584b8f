"""A `Network` as a self-contained Lava program.

The program is text that this module writes from a fixed template and integers; names of the
model go to ``names.json`` and nowhere else. Connectivity, delays, input and output are stock
Lava processes; own neuron processes (`microcode` names them) come in a package of their own.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from importlib import resources

import numpy as np

from nmc.backends.api import Payload
from nmc.backends.loihi.emit_checks import check_constants, check_network
from nmc.backends.loihi.emit_neurons import PopulationWriter
from nmc.backends.loihi.emit_processes import OWN_PROCESSES, microcode, process_name, restored_by_loader
from nmc.backends.loihi.emit_synapses import (
    SynapsePlan,
    connect_lines,
    float_tuple,
    int_tuple,
    message_bits,
    offset_lines,
    plan_network,
)
from nmc.ir.connectivity import Array, size
from nmc.ir.diagnostic import DiagnosticSink, ExitCode
from nmc.ir.network import Network
from nmc.ir.neurons import has_potential
from nmc.ir.reference import per_channel
from nmc.runtime.stopping import MarginRule

PROGRAM = "lava/program.py"
"""The member to run."""

ARRAYS = "lava/arrays.npz"
"""Its weights and parameters."""


_LOOPS = """

Some projections lead back; window starts are those of the other projections. A gate (a
`GradedVec` whose threshold a `StateDataloader` lifts) lets their messages pass in the window
of their source only, and samples are apart by the steps that the longest of them takes: so no
sample sees another one. Hardware would be reset between samples."""


_STOPS = """

Samples stop early: without `--trace` each one runs by itself, the program looks at its read-out after every step of
the output's window, and ends it once the best class leads the second by the threshold of that step (`STOP`).
`out.npz` then holds the read-outs of those steps, and `steps`: how many steps of its window each sample took."""


def template(name: str) -> str:
    """The text of a file of the package's ``templates`` folder."""
    return resources.files("nmc.backends.loihi").joinpath("templates", name).read_text(encoding="utf-8")


def emit_program(network: Network, rule: MarginRule | None = None) -> Payload:
    """The members of a runnable Lava program.

    Args:
        network: aligned and quantized.
        rule: after each step of the output's window the program looks whether the sample may stop; None: it
            takes all samples through all steps in one run, as it does for a trace in any case.

    Returns:
        ``lava/program.py``, ``lava/arrays.npz``, ``lava/names.json``, ``lava/README.md`` and,
        where stock Lava lacks a neuron, ``lava/nmc_neurons/*.py``. Equal networks give equal bytes.

    Raises:
        NmcError: (exit 4) something that Lava cannot do exactly, with all reasons.
    """
    sink = DiagnosticSink()
    check_network(network, sink)
    sink.raise_errors(ExitCode.DOES_NOT_FIT)
    plans, constants = plan_network(network)
    check_constants(network, dict(plans), sink)
    sink.raise_errors(ExitCode.DOES_NOT_FIT)

    arrays: dict[str, Array] = {}
    numbers = {population.name: number for number, population in enumerate(network.populations)}
    build: list[str] = []
    for population in network.populations:
        build += PopulationWriter(network, population, constants[population.name], arrays).lines()
    build += _connections(network, plans, arrays)

    members = {
        PROGRAM: _program(network, numbers, build, rule).encode(),
        ARRAYS: _npz(arrays),
        "lava/names.json": _names(network),
        "lava/README.md": _readme(network, stops=rule is not None).encode(),
    }
    if _own(network):
        for name in ("init", "process", "models"):
            member = "lava/nmc_neurons/" + ("__init__.py" if name == "init" else f"{name}.py")
            members[member] = template(f"neurons_{name}.py.txt").encode()
    return members


def _connections(network: Network, plans: Mapping[str, SynapsePlan], arrays: dict[str, Array]) -> list[str]:
    """Source lines of all projections, and of the gates in front of those that lead back.

    The window of a population that waits is longer than T: what its sources send behind their own
    windows must not reach it either.
    """
    numbers = {population.name: number for number, population in enumerate(network.populations)}
    lines: list[str] = []
    gated: set[str] = set()
    for number, projection in enumerate(network.projections):
        source, target = numbers[projection.source], numbers[projection.target]
        start = f"net[{source}]"
        if projection.name in network.recurrent or network.by_name[projection.target].wait:
            start = f"gate_{source}"
            if start not in gated:
                lines.append(f"{start} = gate(net[{source}], {source}, period)")
                gated.add(start)
        bits = message_bits(network.by_name[projection.source])
        lines += connect_lines(number, projection, plans[projection.name], (start, f"net[{target}]"), bits, arrays)
    for population in network.populations:
        offset = np.zeros(population.neurons, dtype=np.int64)
        for projection in network.incoming[population.name]:
            offset += plans[projection.name].offset
        lines += offset_lines(numbers[population.name], offset, population.shape, arrays)
    return lines


def _own(network: Network) -> tuple[str, ...]:
    """The processes of ``nmc_neurons`` that a network needs."""
    used = {process_name(network, population) for population in network.populations}
    return tuple(name for name in OWN_PROCESSES if name in used)


def _gap(network: Network) -> int:
    """Steps between two samples after which no message of a loop is on its way, and nobody's window open."""
    starts = {population.name: population.start for population in network.populations}
    waits = max(population.wait for population in network.populations)
    lags = (p.delay + starts[p.source] - starts[p.target] for p in network.projections if p.name in network.recurrent)
    return max((max(1, abs(lag)) for lag in lags), default=waits)


def read_out_scales(network: Network) -> tuple[float, ...]:
    """Real value of one unit of each neuron of the first output; one number where it is one."""
    shape = network.by_name[network.output.population].shape
    scale = np.asarray(per_channel(network.output.scale, shape), dtype=np.float64)
    values = np.broadcast_to(scale, shape) if scale.size > 1 else scale
    return tuple(float(value) for value in values.reshape(-1))


def _stopping(network: Network, rule: MarginRule | None) -> str:
    """The part of the program that ends samples early."""
    if rule is None:
        return ""
    scales = read_out_scales(network)
    fields = {"@STOP@": float_tuple(rule.thresholds), "@SCALES@": float_tuple(scales)}
    return _filled(template("stopping.py.txt"), fields)


def _program(network: Network, numbers: Mapping[str, int], build: list[str], rule: MarginRule | None) -> str:
    populations = network.populations
    potentials = [numbers[p.name] for p in populations if has_potential(p.neuron)]
    loaded = [numbers[p.name] for p in populations if restored_by_loader(network, p)]
    own, several = ", ".join(_own(network)), len(network.inputs) > 1
    fields = {
        "@SUMMARY@": f"{len(populations)} populations, {len(network.projections)} projections, "
        f"{network.timesteps} time steps per sample.\n",
        "@IMPORTS@": f"from nmc_neurons.process import {own}\n" if own else "",
        "@STEPS@": str(int(network.timesteps)),
        "@NEURONS@": int_tuple(tuple(p.neurons for p in populations)),
        "@GAP@": str(_gap(network)),
        "@STARTS@": int_tuple(tuple(p.sends_from for p in populations)),
        "@POTENTIALS@": int_tuple(tuple(potentials)),
        "@LOADED@": int_tuple(tuple(loaded)),
        "@COLUMNS@": "neurons of the input population" + "s, one behind the other" * several,
        "@WIDTH@": str(size(network.input_shape)) if several else "NEURONS[INPUT]",
        "@INPUT@": str(numbers[network.input.population]),
        "@OUTPUTS@": int_tuple(tuple(numbers[name] for name in network.read_outs)),
        "@BUILD@": "\n".join("    " + line for line in build),
        "@STOPPING@": _stopping(network, rule),
        "@RUN@": "run(inputs, trace, options.on)"
        + (" if trace else run_until_clear(inputs, options.on)" if rule is not None else ""),
    }
    return _filled(template("program.py.txt"), fields)


def _filled(text: str, fields: Mapping[str, str]) -> str:
    for mark, value in fields.items():
        text = text.replace(mark, value)
    return text


def _readme(network: Network, *, stops: bool) -> str:
    own = microcode(network)
    if own:
        hardware = "\n".join(f"* {line}." for line in own) + (
            "\n\nThese neurons are in `nmc_neurons`; all other processes are stock Lava."
        )
    else:
        hardware = "Every process is stock Lava."
    hardware += (
        "\n\nA read-out neuron has the threshold 131071, the largest of the hardware's 17 bits, where its potential\n"
        "is proven to stay below it, and 131072 elsewhere: it then saturates like every potential and never fires."
    )
    return _filled(
        template("README.md.txt"),
        {
            "@INPUTS@": str(size(network.input_shape)),
            "@INPUTMODE@": _inputs(network),
            "@OUTPUTS@": _read_outs(network),
            "@STEPS@": str(int(network.timesteps)),
            "@FOLLOW@": f"after {_gap(network)} idle steps" if network.recurrent else "without a break",
            "@LOOPS@": (_LOOPS if network.recurrent else "") + (_STOPS if stops else ""),
            "@HARDWARE@": hardware,
        },
    )


def _inputs(network: Network) -> str:
    """What the columns of the inputs are."""
    driven = {"bias": "the bias mantissa of each neuron", "message": "the message that each neuron sends"}
    if len(network.inputs) == 1:
        return f"{driven[network.input.mode]}, {int(network.input.low)} to {int(network.input.high)}."
    numbers = {population.name: number for number, population in enumerate(network.populations)}
    parts = (
        f"in columns {int(place.start)} to {int(place.stop) - 1} {driven[network.by_input[name].mode]} of population "
        f"{numbers[name]}, {int(network.by_input[name].low)} to {int(network.by_input[name].high)}"
        for name, place in network.input_places.items()
    )
    return "; ".join(parts) + "."


def _read_outs(network: Network) -> str:
    """The arrays that a run writes for the outputs."""
    numbers = {population.name: number for number, population in enumerate(network.populations)}
    return ", ".join(
        f"`readout_{numbers[name]}` (samples, {network.by_name[name].neurons}) int64" for name in network.read_outs
    )


def _names(network: Network) -> bytes:
    """Names as data: the only member that holds text of the model."""
    document = {
        "populations": [{"name": p.name, "shape": [int(n) for n in p.shape]} for p in network.populations],
        "projections": [p.name for p in network.projections],
    }
    return (json.dumps(document, indent=1, ensure_ascii=True) + "\n").encode()


def _npz(arrays: Mapping[str, Array]) -> bytes:
    """An .npz whose bytes depend on the arrays alone: sorted, stored, dated 1980, smallest integers."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            member = io.BytesIO()
            np.lib.format.write_array(member, _smallest(arrays[name]), version=(1, 0), allow_pickle=False)
            archive.writestr(info, member.getvalue())
    return buffer.getvalue()


def _smallest(values: Array) -> Array:
    """The same integers, C order, little endian, in the narrowest signed type that holds them."""
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for code in ("<i1", "<i2", "<i4"):
        kind = np.dtype(code)
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return np.ascontiguousarray(values, dtype=kind)
    return np.ascontiguousarray(values, dtype="<i8")
