"""The standard pipeline: the order of passes that serves any chip described by a target file.

Nothing in it belongs to one family: every pass takes its limits from the target. A backend
with passes of its own builds a `Pipeline` from the same public pieces.
"""

from __future__ import annotations

from dataclasses import replace

from nmc.backends.api import BURST_LEVELS, Options
from nmc.hardware.target import Target
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.neurons import Reset
from nmc.passes.align.align_windows import AlignWindows
from nmc.passes.align.host_input import HostInput
from nmc.passes.base import Pass, Pipeline
from nmc.passes.check import CheckMapping
from nmc.passes.convert.convert_graded import ConvertGraded
from nmc.passes.convert.convert_rate import ConvertRate
from nmc.passes.partition import partition_passes
from nmc.passes.partition.split_fan_in import SplitFanIn
from nmc.passes.pins import Pins
from nmc.passes.place import placement_pass
from nmc.passes.quantize.calibrate_layers import CalibrateLayers
from nmc.passes.quantize.quantize_graded import QuantizeGraded
from nmc.passes.quantize.quantize_rate import QuantizeRate
from nmc.passes.quantize.require_neurons import RequireNeurons
from nmc.passes.quantize.send_changes import SendChanges
from nmc.passes.route import RouteXY
from nmc.passes.settings import apply_settings
from nmc.passes.simplify import simplify_passes
from nmc.passes.simplify.relay_pooling import CONSTANT_AXONS


def spiking_reset(target: Target, options: Options) -> Reset:
    """The reset that the user asked for, or the target's own.

    Raises:
        NmcError: the target's neurons cannot reset that way.
    """
    allowed = target.neurons.resets
    reset = options.reset or allowed[0]
    if reset not in allowed:
        raise NmcError.single(
            "reset-not-on-target",
            f"{target.name} has no reset '{reset}', only {', '.join(allowed)}",
            ExitCode.USAGE,
            help=f"leave out --reset, or use --reset {allowed[0]}",
        )
    return reset


def standard_pipeline(target: Target, options: Options) -> Pipeline:
    """From a `LayerGraph` as read to a checked `Routed`, within the limits of the target.

    Raises:
        NmcError: (exit 2) an option that the target does not have.
    """
    host: tuple[Pass, ...] = (HostInput(),) if options.host_input else ()
    middle: tuple[Pass, ...]
    match options.coding:
        case "rate" | "signed" | "burst":
            levels = (options.levels or BURST_LEVELS) if options.coding == "burst" else 1
            reset = spiking_reset(target, options)
            convert = ConvertRate(options.timesteps, reset, levels, signed=options.coding == "signed")
            calibrate = CalibrateLayers(bits=options.weight_bits)
            if options.effort == "fast":
                calibrate = replace(calibrate, rounds=0, refit=False)
            middle = (convert, *host, AlignWindows(options.wait), calibrate, QuantizeRate(options.weight_bits))
        case "graded":
            graded = QuantizeGraded(options.weight_bits)
            middle = (ConvertGraded(bits=options.weight_bits), *host, AlignWindows(), graded)
        case "sigma-delta":
            graded = QuantizeGraded(options.weight_bits)
            middle = (ConvertGraded(follow=False), *host, AlignWindows(), graded, SendChanges(options.timesteps))
        case coding:
            raise NmcError.single(
                "coding-not-available",
                f"coding '{coding}' is not available yet",
                ExitCode.USAGE,
                help="use --coding rate, signed, burst, graded or sigma-delta",
            )
    constant_axons = CONSTANT_AXONS if options.coding == "graded" else 0
    pins = Pins.of(options.pins)
    simplify = simplify_passes(
        strict=options.strict,
        maxpool=options.maxpool,
        constant_axons=constant_axons,
        relay_linear=options.coding in ("graded", "sigma-delta"),
    )
    steps = (
        *simplify,
        *middle,
        RequireNeurons(),
        SplitFanIn(),
        *partition_passes(options.partitioner, options.chips, options.optimise, options.effort),
        placement_pass(options.placer, options.chips, pins),
        RouteXY(),
        CheckMapping(pins),
    )
    return Pipeline(_calibrated_as_stored(apply_settings(steps, options.settings)))


def _calibrated_as_stored(steps: tuple[Pass, ...]) -> tuple[Pass, ...]:
    """Calibration simulates what will be stored: it takes the bits and thresholds that quantize-rate was given."""
    for step in steps:
        if isinstance(step, QuantizeRate):
            bits, thresholds = step.bits, step.thresholds
            return tuple(
                replace(s, bits=bits, thresholds=thresholds) if isinstance(s, CalibrateLayers) else s for s in steps
            )
    return steps
