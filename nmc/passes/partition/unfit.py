"""What to say of a layer of which a single neuron exceeds a core: by how much, and what would help."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nmc.hardware.target import Target
from nmc.ir.connectivity import Conv2d, IndexArray, Pool
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError
from nmc.ir.mapping import Box
from nmc.ir.network import Population, Projection
from nmc.passes.partition.assemble import chip_populations
from nmc.passes.partition.boxes import middle_box, tiling
from nmc.passes.partition.demand import AXON_BITS, Core, Demand, DemandModel
from nmc.passes.partition.limits import LIMITS, Limit
from nmc.passes.partition.split_fan_in import SPLIT_HELPS, refusal

SEARCHED = 4096
"""Populations of at most so many neurons are searched in full for their worst neuron."""


def report_unfit(model: DemandModel, population: Population, fan_out: IndexArray, sink: DiagnosticSink) -> None:
    """One error per limit: the neuron that exceeds it most, by how much, and one to three changes."""
    limits = model.target.core
    worst: dict[str, tuple[int, Demand]] = {}
    for box in _suspects(population):
        demand = model.demand(population.name, box, fan_out)
        use = Core(model).use_with(demand)
        for limit in use.exceeded(limits):
            number = use.count(limit.name)
            if limit.name not in worst or number > worst[limit.name][0]:
                worst[limit.name] = (number, demand)
    for limit in (limit for limit in LIMITS if limit.name in worst):
        number, demand = worst[limit.name]
        allowed = limit.of(limits) or 0
        where = ", ".join(str(axis[0]) for axis in demand.piece.box)
        changes = "; ".join(f"({n}) {text}" for n, text in enumerate(_changes(model, demand, limit, number), 1))
        sink.error(
            limit.slug,
            f"layer '{population.name}': neuron ({where}) alone has {limit.name} = {number}, "
            f"{number - allowed} over the core's limit of {allowed}",
            origin=population.origin,
            help=f"{limit.sentence} {_not_split(model.target, limit)}Any of these helps: {changes}",
        )


def _not_split(target: Target, limit: Limit) -> str:
    """Why the layer is not split into partial sums, where that might help."""
    return f"Not split: {refusal(target, [limit.name])}. " if limit.name in SPLIT_HELPS else ""


def _suspects(population: Population) -> list[Box]:
    # The middle of the map and every corner of it see the extremes of a convolution's fan-in;
    # a matrix may have its worst row anywhere, so small populations are searched in full.
    one = (1,) * len(population.shape)
    boxes = [middle_box(population.shape, one)]
    if population.neurons <= SEARCHED:
        return [*boxes, *tiling(population.shape, one)]
    middle = tuple((n // 2, n // 2 + 1, 1) for n in population.shape[1:])
    return [*boxes, *(((channel, channel + 1, 1), *middle) for channel in range(population.shape[0]))]


def _changes(model: DemandModel, demand: Demand, limit: Limit, number: int) -> list[str]:
    """One to three changes of the network or the target, with numbers, the mildest first."""
    allowed = limit.of(model.target.core) or 0
    target = f"take a target with core.{limit.name} of at least {number}"
    match limit.name:
        case "in_axons":
            return [*_fewer_inputs(model, demand, allowed - (number - _heard(demand)), _heard(demand)), target]
        case "synapse_bits":
            inputs = demand.synapses + sum(int(np.count_nonzero(used)) for _, used in demand.stored.values())
            # One neuron: its index takes no bits. What headers take besides weights is kept.
            weight = model.target.weights.bits
            fixed = demand.headers * AXON_BITS if demand.stored else 0
            each = weight if demand.stored else weight + AXON_BITS
            return [*_fewer_inputs(model, demand, (allowed - fixed) // each, inputs), target]
        case "out_axons":
            readers = [p.target for p in model.network.outgoing[demand.piece.population]]
            named = ", ".join(f"'{name}'" for name in readers[:3])
            return [
                f"let at most {allowed} cores read the layer instead of {number}: make {named} narrower",
                "read the layer by fewer branches",
                target,
            ]
    return [limit.help, target]


def _heard(demand: Demand) -> int:
    return len(np.unique(np.concatenate([i.neurons for i in demand.inputs]))) if demand.inputs else 0


def _fewer_inputs(model: DemandModel, demand: Demand, allowed: int, inputs: int) -> list[str]:
    """How to bring the inputs of a neuron down to a number, by the kind of its largest projection."""
    projection = _largest(model, demand)
    if projection is None or allowed < 1:
        return []
    texts = []
    operator = projection.connectivity
    if isinstance(operator, Conv2d | Pool):
        conv = operator.as_conv() if isinstance(operator, Pool) else operator
        per_in, height, width = conv.weight.shape[1:]
        window = f"{height} x {width}"
        share = allowed * per_in // inputs
        if 1 <= share < per_in:
            groups = _groups(conv, share)
            way = f"fewer channels, or groups={groups}" if groups else "fewer channels"
            texts.append(f"read at most {share} input channels per neuron instead of {per_in} ({way})")
        taps = allowed * height * width // inputs
        if taps >= 1 and height * width > 1:
            texts.append(f"use a smaller kernel: at most {taps} taps instead of {window}")
    elif projection.source in model.network.by_input:
        texts.append("let the host compute the layer: --host-input")
        texts.append(f"prune: at most {allowed} non-zero weights per neuron instead of {inputs}")
    else:
        texts.append(f"give '{projection.source}' fewer neurons: at most {allowed} may be read instead of {inputs}")
        texts.append(f"prune: at most {allowed} non-zero weights per neuron instead of {inputs}")
    return texts


def _groups(conv: Conv2d, share: int) -> int | None:
    """The fewest groups of which a neuron reads at most ``share`` channels, where channels divide into such."""
    in_channels, out_channels = conv.in_shape[0], conv.weight.shape[0]
    return next(
        (
            n
            for n in range(1, in_channels + 1)
            if not (in_channels % n or out_channels % n) and in_channels <= share * n
        ),
        None,
    )


def _largest(model: DemandModel, demand: Demand) -> Projection | None:
    if not demand.inputs:
        return None
    name = max(demand.inputs, key=lambda entry: len(entry.neurons)).projection
    return next(p for p in model.network.projections if p.name == name)


def raise_unfit(model: DemandModel, cores: Sequence[Core], sink: DiagnosticSink) -> None:
    """Fail with the errors, if there are any, and say what was placed and what room is left.

    Raises:
        NmcError: there are errors (exit 4).
    """
    if not sink.errors:
        return
    layers = chip_populations(model.network)
    failed = {d.origin for d in sink.errors}
    fine = [p for p in layers if p.origin not in failed]
    names = {p.name for p in fine}
    used = sum(any(d.piece.population in names for d in core.demands) for core in cores)
    grid = model.target.grid
    available = grid.chips * grid.cores_per_chip
    chips = f"{grid.chips} chip{'s' if grid.chips > 1 else ''}"
    fit = f"the other {len(fine)} of {len(layers)} layers fit"
    sink.note(
        "layers-placed",
        f"{fit}, on {used} of the {available} cores of {chips}; {available - used} cores are left"
        if used <= available
        else f"{fit} one by one, but take {used} cores, {used - available} more than the {available} of {chips}",
        help="more cores do not help a layer of which one neuron exceeds a core",
    )
    raise NmcError(sink.items, ExitCode.DOES_NOT_FIT)
