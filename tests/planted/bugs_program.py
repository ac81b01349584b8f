"""Bugs in what executes a mapping, in the emitted Lava program and in the artifact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from nmc.backends.loihi import emit, emit_neurons, emit_synapses
from nmc.ir import serial
from nmc.kernels import fused, fused_operands
from tests.planted.planting import Bug, Patches


def _segments(changed: Callable[[Any], Any]) -> Callable[[Patches], None]:
    def plant(patches: Patches) -> None:
        patches.wrap(
            fused_operands.Segments,
            "_append",
            lambda original, segments, group, weight, conv, source: original(
                segments, group, changed(weight), conv, source
            ),
        )

    return plant


def _fused_sums(changed: Callable[[Any], Any]) -> Callable[[Patches], None]:
    def plant(patches: Patches) -> None:
        patches.change(fused, "sums_of", lambda sums: sums and [changed(part) for part in sums])

    return plant


def _swapped_pads(part: Any) -> Any:
    convs = tuple(replace(c, pads=(c.pads[2], c.pads[3], c.pads[0], c.pads[1])) for c in part.convs)
    return replace(part, convs=convs)


KERNELS = (
    Bug("sign lost where weights are packed into bytes", "fused operands", "residual", _segments(np.abs)),
    Bug("kernel packed upside down", "fused operands", "residual", _segments(lambda w: w[:, :, ::-1])),
    Bug(
        "shift of a fused sum off by one",
        "fused operands",
        "residual",
        _fused_sums(lambda part: replace(part, shift=part.shift + 1)),
    ),
    Bug("pads of a fused convolution swapped", "fused operands", "residual", _fused_sums(_swapped_pads)),
)


def _arguments(module: Any, name: str, old: str, new: str) -> Callable[[Patches], None]:
    """Emitted source lines with a text replaced."""

    def plant(patches: Patches) -> None:
        patches.change(module, name, lambda lines: [line.replace(old, new) for line in lines])

    return plant


def _wrapped(patches: Patches) -> None:
    """Every array is cut to 8 bits."""
    patches.put(emit, "_smallest", lambda values: np.ascontiguousarray(values.astype(np.int64).astype("<i1")))


def _emitted_delay(patches: Patches) -> None:
    patches.wrap(
        emit,
        "connect_lines",
        lambda original, number, projection, *rest: original(number, replace(projection, delay=1), *rest),
    )


def _emitted_exponent(patches: Patches) -> None:
    def lines(original: Any, number: int, projection: Any, plan: Any, *rest: Any) -> Any:
        groups = tuple(replace(group, shift=-group.shift) for group in plan.groups)
        return original(number, projection, replace(plan, groups=groups), *rest)

    patches.wrap(emit, "connect_lines", lines)


def _emitted_geometry(changed: Callable[[Any], Any]) -> Callable[[Patches], None]:
    def plant(patches: Patches) -> None:
        patches.wrap(
            emit_synapses,
            "matrix_text",
            lambda original, number, connectivity, arrays: original(number, changed(connectivity), arrays),
        )

    return plant


def _turned_pads(connectivity: Any) -> Any:
    if getattr(connectivity, "pads", None) is None:
        return connectivity
    top, left, bottom, right = connectivity.pads
    return replace(connectivity, pads=(left, top, right, bottom))


def _emitted_parameter(asked: str, changed: Callable[[Any], Any]) -> Callable[[Patches], None]:
    def plant(patches: Patches) -> None:
        def parameter(original: Any, writer: Any, name: str, values: Any, constant: int, **given: Any) -> str:
            value = changed(values) if name == asked else values
            return str(original(writer, name, value, constant, **given))

        patches.wrap(emit_neurons.PopulationWriter, "_parameter", parameter)

    return plant


def _emitted_source(patches: Patches) -> None:
    """The first projection leaves from the population behind its source."""
    patches.wrap(
        emit,
        "connect_lines",
        lambda original, number, projection, plan, ends, *rest: original(
            number, projection, plan, ("net[2]" if ends[0] == "net[1]" else ends[0], ends[1]), *rest
        ),
    )


def _constants_lost(patches: Patches) -> None:
    def columns(original: Any, *args: Any) -> Any:
        made, lifted = original(*args)
        return made * (np.arange(made.shape[1]) == 0), lifted

    patches.wrap(emit_synapses, "_bias_columns", columns)


EMIT = (
    Bug("sign of large parameters lost where arrays are narrowed", "emit", "residual", _wrapped),
    Bug("delay of the shortcut not emitted", "emit", "residual", _emitted_delay),
    Bug("exponent of a sum with the wrong sign", "emit", "residual", _emitted_exponent),
    Bug("emitted pads in another order", "emit", "exported", _emitted_geometry(_turned_pads)),
    Bug(
        "emitted groups joined",
        "emit",
        "residual",
        _emitted_geometry(
            lambda c: (
                replace(c, groups=1, in_shape=(c.weight.shape[1], *c.in_shape[1:]))
                if getattr(c, "groups", 1) > 1
                else c
            )
        ),
    ),
    Bug("emitted thresholds one too low", "emit", "residual", _emitted_parameter("threshold", lambda v: v - 1)),
    Bug("emitted bias without its sign", "emit", "residual", _emitted_parameter("bias", np.abs)),
    Bug("emitted initial potential left out", "emit", "residual", _emitted_parameter("v0", np.zeros_like)),
    Bug("emitted projection from the wrong population", "emit", "residual", _emitted_source),
    Bug(
        "emitted decay of the current left out",
        "emit",
        "residual",
        _arguments(emit_neurons.PopulationWriter, "_lif", "du=4095", "du=0"),
    ),
    Bug(
        "emitted windows reset one step late",
        "emit",
        "residual",
        _arguments(emit_neurons.PopulationWriter, "_lif", "reset_offset=", "reset_offset=1"),
    ),
    Bug("higher digits of a graded bias lost", "emit", "graded", _constants_lost),
)


def _narrow_wraps(patches: Patches) -> None:
    original = serial.narrowed
    patches.put(
        serial,
        "narrowed",
        lambda array: array.astype(np.int8) if array.dtype.kind in "iu" and array.size > 1 else original(array),
    )


def _step_lost(patches: Patches) -> None:
    patches.put(
        serial, "_box_tree", lambda box: [[start, stop - (stop - start > 1), step] for start, stop, step in box]
    )


def _delay_lost(patches: Patches) -> None:
    """Fields that have a default are left out."""

    def field(original: Any, writer: Any, hint: Any, value: Any) -> Any:
        return 1 if hint is int and value == 2 else original(writer, hint, value)

    patches.wrap(serial._Writer, "field", field)


ARTIFACT = (
    Bug("stored integers wrap at 8 bits", "artifact", "residual", _narrow_wraps),
    Bug("stored boxes one too short", "artifact", "many-cores", _step_lost),
    Bug("stored delays of two become one", "artifact", "residual", _delay_lost),
)
