"""Bugs in the convert, align and quantize stages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nmc.ir.network import Network
from nmc.ir.neurons import LIF, Reset, SigmaDelta
from nmc.passes.align.align_windows import AlignWindows
from nmc.passes.convert import convert_rate, encode_input, units
from nmc.passes.quantize import calibrate_layer, calibrate_layers, fit_graded, quantize_rate, send_changes
from nmc.passes.quantize.fixed_point import WeightGrid
from tests.planted.planting import Bug, Patches


def _populations(program: Network, changed: Any) -> Network:
    """The network with some neurons changed."""
    neurons = {p.name: changed(p) for p in program.populations}
    return replace(program, populations=tuple(replace(p, neuron=neurons[p.name]) for p in program.populations))


def _first_bias_only(patches: Patches) -> None:
    def summed(original: Any, biases: Any, shape: Any) -> Any:
        return np.zeros(shape[0]) if len(biases) < 2 else original(biases[:1], shape)

    patches.wrap(units, "_bias_sum", summed)


def _wrong_channel(module: Any) -> Any:
    def plant(patches: Patches) -> None:
        def scaled(original: Any, connectivity: Any, scale: Any) -> Any:
            return original(connectivity, scale[::-1] if scale.ndim else scale)

        patches.wrap(module, "scale_sources", scaled)

    return plant


def _lost_shortcut(patches: Patches) -> None:
    def terms(original: Any, layer: Any, layers: Any) -> Any:
        found, bias = original(layer, layers)
        return (found[:1], bias)

    patches.wrap(units, "_terms", terms)


def _unscaled_shortcut(patches: Patches) -> None:
    def terms(original: Any, layer: Any, layers: Any) -> Any:
        found, bias = original(layer, layers)
        if len(found) < 2:
            return found, bias
        last = found[-1]
        return (
            *found[:-1],
            replace(last, connectivity=last.connectivity.with_weight(0 * last.connectivity.weight + 1)),
        ), bias

    patches.wrap(units, "_terms", terms)


def _input_span(patches: Patches) -> None:
    """The input's range is taken from its smallest value."""

    def encoded(original: Any, entry: Any, inputs: Any, *rest: Any) -> Any:
        return original(entry, inputs / 2, *rest)

    patches.wrap(encode_input, "encode_input", encoded)


def _split_without_sign(patches: Patches) -> None:
    def split(original: Any, connectivity: Any, in_shape: Any) -> Any:
        done = original(connectivity, in_shape)
        return done.with_weight(np.abs(done.weight) * np.sign(np.concatenate([connectivity.weight] * 2, axis=1)))

    patches.wrap(encode_input, "split_sources", split)


def _no_start(patches: Patches) -> None:
    def neuron(original: Any, converter: Any, *given: Any) -> Any:
        made, scale = original(converter, *given)
        return replace(made, v0=np.zeros_like(made.v0)), scale

    patches.wrap(convert_rate.ConvertRate, "_neuron", neuron)


def _undivided_burst(patches: Patches) -> None:
    def neuron(original: Any, converter: Any, *given: Any) -> Any:
        made, scale = original(converter, *given)
        return replace(made, threshold=made.threshold * converter.levels), scale

    patches.wrap(convert_rate.ConvertRate, "_neuron", neuron)


def _decode(change: Any) -> Any:
    def plant(patches: Patches) -> None:
        patches.wrap(units.Units, "output_specs", lambda original, found, scale: change(original(found, scale)))

    return plant


CONVERT = (
    Bug("bias of a single layer dropped", "convert", "residual", _first_bias_only),
    Bug("decode scales folded into the wrong input channels", "convert", "residual", _wrong_channel(convert_rate)),
    Bug("shortcut dropped", "convert", "residual", _lost_shortcut),
    Bug("shortcut without its scale", "convert", "residual", _unscaled_shortcut),
    Bug("input range half as wide", "convert", "exported", _input_span),
    Bug("negative half of the input keeps its sign", "convert", "zero", _split_without_sign),
    Bug("initial potential of half a threshold left out", "convert", "fast", _no_start),
    Bug("burst threshold not divided by its levels", "convert", "fast-burst", _undivided_burst),
    Bug(
        "read-out decoded for one step more",
        "convert",
        "residual",
        _decode(lambda specs: tuple(replace(s, scale=s.scale * 16 / 17) for s in specs)),
    ),
    Bug(
        "softmax behind the read-out lost",
        "convert",
        "residual",
        _decode(lambda specs: tuple(replace(s, head="") for s in specs)),
    ),
)


def _aligned(change: Any) -> Any:
    """AlignWindows whose result is changed by ``change(before, after)``."""

    def plant(patches: Patches) -> None:
        patches.wrap(
            AlignWindows,
            "run",
            lambda original, step, program, context: change(program, original(step, program, context)),
        )

    return plant


def _early_shortcut(before: Network, after: Network) -> Network:
    return replace(after, projections=tuple(replace(p, delay=1) for p in after.projections))


def _late_shortcut(before: Network, after: Network) -> Network:
    return replace(
        after, projections=tuple(replace(p, delay=p.delay + 1) if p.delay > 1 else p for p in after.projections)
    )


def _late_read_out(before: Network, after: Network) -> Network:
    moved = (replace(p, start=p.start + 1) if p.name in after.read_outs else p for p in after.populations)
    return replace(after, populations=tuple(moved))


def _forgotten_wait(before: Network, after: Network) -> Network:
    return replace(after, populations=tuple(replace(p, wait=0) for p in after.populations))


ALIGN = (
    Bug("shortcut does not wait for its branch", "align", "residual", _aligned(_early_shortcut)),
    Bug("shortcut waits one step too long", "align", "residual", _aligned(_late_shortcut)),
    Bug("window of the read-out one step too late", "align", "residual", _aligned(_late_read_out)),
    Bug("waiting steps counted but not taken", "align", "waiting", _aligned(_forgotten_wait)),
    Bug("nothing is aligned", "align", "residual", _aligned(lambda before, after: before)),
)


def _rounded(change: Any) -> Any:
    def plant(patches: Patches) -> None:
        patches.wrap(WeightGrid, "round", change)

    return plant


def _stored(change: Any) -> Any:
    """QuantizeRate whose result is changed."""

    def plant(patches: Patches) -> None:
        patches.change(quantize_rate.QuantizeRate, "run", change)

    return plant


def _neurons(kind: type, changed: Any) -> Any:
    return _stored(
        lambda program: _populations(
            program,
            lambda p: changed(p.neuron) if isinstance(p.neuron, kind) and p.name not in program.by_input else p.neuron,
        )
    )


def _projections(program: Network, changed: Any) -> Network:
    return replace(program, projections=tuple(changed(p) for p in program.projections))


def _reversed_unit(patches: Patches) -> None:
    """Weights of a layer in the units of other channels."""
    patches.wrap(
        quantize_rate, "by_output", lambda original, connectivity, values: original(connectivity, values[::-1])
    )


def _swapped_fire(patches: Patches) -> None:
    _neurons(LIF, lambda n: replace(n, reset=Reset.ZERO))(patches)


def _not_refolded(patches: Patches) -> None:
    patches.wrap(calibrate_layers._Run, "_refolded", lambda original, run, projection: projection)


def _offset_negated(patches: Patches) -> None:
    patches.wrap(
        calibrate_layer._Layer,
        "changed",
        lambda original, layer, projections, offset: original(layer, projections, -offset),
    )


def _graded_shift(patches: Patches) -> None:
    def solve(original: Any, fit: Any, *args: Any) -> Any:
        found = original(fit, *args)
        return replace(found, stored=[replace(p, shift=p.shift + (np.arange(len(p.shift)) == 0)) for p in found.stored])

    patches.wrap(fit_graded.GradedFit, "solve", solve)


def _graded_bias_unscaled(patches: Patches) -> None:
    def per_output(original: Any, biases: Any, population: Any, factor: Any) -> Any:
        return original(biases, population, np.ones_like(factor) * factor.mean())

    patches.wrap(fit_graded, "_per_output", per_output)


def _graded_mixed_scales(patches: Patches) -> None:
    def solve(original: Any, fit: Any, *args: Any) -> Any:
        found = original(fit, *args)
        return replace(found, scale=found.scale[::-1])

    patches.wrap(fit_graded.GradedFit, "solve", solve)


def _changing(changed: Any) -> Any:
    def plant(patches: Patches) -> None:
        patches.change(
            send_changes.SendChanges,
            "_changing",
            lambda p: replace(p, neuron=changed(p.neuron)) if isinstance(p.neuron, SigmaDelta) else p,
        )

    return plant


def _wider_weights(patches: Patches) -> None:
    patches.change(quantize_rate, "weight_grid", lambda grid: replace(grid, top=2 * grid.top))


def _unbounded_sums(patches: Patches) -> None:
    """The bound of a sum looks at the smallest message alone."""
    patches.wrap(
        quantize_rate, "row_sums", lambda original, connectivity, low, high: original(connectivity, low, max(low, 0))
    )


QUANTIZE = (
    Bug("weights twice as wide as the target stores", "quantize", "exported", _wider_weights),
    Bug("sums bounded by the smallest message", "quantize", "residual", _unbounded_sums),
    Bug(
        "weights cut off instead of rounded",
        "quantize",
        "exported",
        _rounded(
            lambda original, grid, values: np.clip(
                np.trunc(values / grid.step).astype(np.int64) * grid.step, -grid.top, grid.top
            )
        ),
    ),
    Bug(
        "weights lose their sign",
        "quantize",
        "exported",
        _rounded(lambda original, grid, values: np.abs(original(grid, values))),
    ),
    Bug(
        "thresholds one too high",
        "quantize",
        "exported",
        _neurons(LIF, lambda n: replace(n, threshold=n.threshold + 1)),
    ),
    Bug(
        "bias without its exponent",
        "quantize",
        "tiny-bias",
        _neurons(LIF, lambda n: replace(n, bias_exp=np.zeros_like(n.bias_exp))),
    ),
    Bug(
        "initial potential in units of the sum",
        "quantize",
        "residual",
        _neurons(LIF, lambda n: replace(n, v0=n.v0 // 64)),
    ),
    Bug("weights in the units of other channels", "quantize", "residual", _reversed_unit),
    Bug("reset to zero where it should subtract", "quantize", "residual", _swapped_fire),
    Bug("potentials leak", "quantize", "residual", _neurons(LIF, lambda n: replace(n, dv=64))),
    Bug("neurons rest after a spike", "quantize", "residual", _neurons(LIF, lambda n: replace(n, refractory=1))),
    Bug(
        "shift of a sum to the wrong side",
        "quantize",
        "residual",
        _stored(lambda program: _projections(program, lambda p: replace(p, shift=-p.shift))),
    ),
    Bug(
        "decode scale of the read-out not changed",
        "quantize",
        "exported",
        _stored(
            lambda program: replace(program, outputs=tuple(replace(o, scale=o.scale[::-1]) for o in program.outputs))
        ),
    ),
    Bug("what a spike is worth not carried to its readers", "quantize", "residual", _not_refolded),
    Bug("bias moved the wrong way by calibration", "quantize", "residual", _offset_negated),
    Bug("shift of one graded channel off by one", "quantize", "graded", _graded_shift),
    Bug("graded bias in the unit of all channels", "quantize", "graded", _graded_bias_unscaled),
    Bug("graded scales of channels mixed up", "quantize", "graded", _graded_mixed_scales),
    Bug(
        "sum of changes starts without its bias",
        "quantize",
        "sigma-delta",
        _changing(lambda n: replace(n, v0=np.zeros_like(n.v0))),
    ),
    Bug(
        "changes shifted once too often", "quantize", "sigma-delta", _changing(lambda n: replace(n, shift=n.shift + 1))
    ),
    Bug(
        "changes of a rectifier are not rectified",
        "quantize",
        "sigma-delta",
        _changing(lambda n: replace(n, rectify=False)),
    ),
)
