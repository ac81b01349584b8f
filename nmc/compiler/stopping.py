"""``--stop margin`` in a compile: refused early, fitted on the calibration samples, said with its numbers."""

from __future__ import annotations

import numpy as np

from nmc.backends.api import Backend, Options, Payload
from nmc.hardware.target import Target
from nmc.ir.connectivity import Array, size
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError
from nmc.ir.mapping import Routed
from nmc.ir.network import Network
from nmc.ir.reference import encode
from nmc.kernels.mapped_tables import build_tables
from nmc.passes.base import Program
from nmc.runtime.simulator import execute
from nmc.runtime.stopping import MarginRule, fit_margin, refuse_coding, refuse_outputs

VALUES_MAX = 1 << 22
"""Input values in flight while the rule is fitted."""


def refuse_stopping(options: Options, program: Program | None = None) -> None:
    """Check that samples may stop early, as soon as it can be known.

    Args:
        options: of the compile.
        program: if there is one: that of a pass.

    Raises:
        NmcError: ``stop-not-possible`` or ``bad-option`` (exit 2).
    """
    if options.stop == "never":
        return
    if options.stop != "margin" or not 0 <= options.max_changed <= 100:
        message = (
            f"samples stop 'never' or by 'margin', with 0 to 100 per cent of answers changed; got {options.stop!r}"
        )
        raise NmcError.single("bad-option", f"{message} and {options.max_changed}", ExitCode.USAGE)
    refuse_coding(options.coding)
    if isinstance(program, Network):
        refuse_outputs(program)


def fit_stopping(routed: Routed, inputs: Array, options: Options, sink: DiagnosticSink) -> MarginRule | None:
    """The rule by which samples stop; None if they do not.

    Args:
        routed: what was placed: its own read-outs are what the rule is fitted to.
        inputs: (N, ...) float32 calibration inputs.
        options: of the compile.
        sink: gets a note with what was found, or a warning if so few samples cannot assure it.
    """
    if options.stop == "never":
        return None
    network, program = routed.network, build_tables(routed)
    batch = max(VALUES_MAX // size(network.input_shape), 1)
    parts = []
    for first in range(0, len(inputs), batch):
        run = execute(program, encode(network, inputs[first : first + batch]), curve=True)
        parts.append((run.curves or ())[0])
    rule = fit_margin(network, np.concatenate(parts), options.max_changed)
    told = (
        f"samples stop after {rule.mean_steps:.1f} of {network.timesteps} input steps on average; "
        f"{rule.changed} of {rule.samples} calibration samples change their answer by it"
    )
    if rule.assured > options.max_changed:
        sink.warning(
            "stop-not-assured",
            f"{told}. So few assure {rule.assured:.2g} % of changes at most; for the {options.max_changed:g} % that "
            "were asked for, the thresholds are extrapolated",
            help=f"calibrate with at least {int(np.ceil(100 / max(options.max_changed, 1e-3))):,} samples, "
            "or allow more with --max-changed",
        )
    else:
        sink.note("stop-fitted", f"{told}; of others, at most {rule.assured:.2g} % are expected to")
    return rule


def emit_program(
    backend: Backend, routed: Routed, target: Target, options: Options, rule: MarginRule | None, sink: DiagnosticSink
) -> Payload:
    """What the backend emits, with the rule where it can."""
    if rule is None:
        return backend.emit(routed, target, options)
    emit = getattr(backend, "emit_stopping", None)
    if emit is None:
        sink.warning(
            "stop-not-emitted",
            f"the backend '{backend.name}' emits programs that take all steps; only the simulator stops early",
        )
        return backend.emit(routed, target, options)
    payload: Payload = emit(routed, target, options, rule)
    return payload
