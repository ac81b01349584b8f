"""Proof of relays that send signed spikes: what arrives is the sum before, but for what they say they hold back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nmc.compiler.prove_stored import Problem
from nmc.ir.connectivity import Array, Connectivity, size
from nmc.ir.network import SUM, Network, Population
from nmc.ir.neurons import LIF
from nmc.ir.reference import encode
from nmc.kernels.layerwise import LaidNetwork, joined_channels_last
from nmc.kernels.propagate import plan


def relay_problems(before: Network, after: Network, x: Array) -> Iterator[Problem]:
    """Nothing but relays was added, each sum is cut up exactly, and no relay holds back more than its bound.

    A relay sends at most one threshold in a step. So it holds one threshold at the end of a sample, and
    what the sums of single steps had beyond one; within the calibrated range that is nothing.

    Args:
        before: integers.
        after: the same with relays.
        x: calibration inputs.
    """
    yield from _other_changes(before, after)
    relays = [population for population in after.populations if population.name not in before.by_name]
    laid = LaidNetwork.lay(after)
    wrong: set[str] = set()
    for sample in joined_channels_last(after, encode(after, x)):
        sent: dict[str, Array] = {}
        for population, messages, _ in laid.run(sample):
            sent[population.population.name] = np.asarray(messages).astype(np.int64)
        for relay in relays:
            message = _relay_problem(before, after, relay, sent)
            if message and relay.name not in wrong:
                wrong.add(relay.name)
                yield message, relay.origin


def _other_changes(before: Network, after: Network) -> Iterator[Problem]:
    for population in before.populations:
        same = after.by_name.get(population.name)
        if same is None or same.neuron is not population.neuron:
            yield f"'{population.name}' has other neurons than before", population.origin
    known = {projection.name: projection for projection in after.projections}
    for projection in before.projections:
        kept = known.get(projection.name)
        if kept is None and projection.name + SUM not in known:
            yield f"'{projection.name}' is missing", projection.origin
        elif kept is not None and kept.connectivity is not projection.connectivity:
            yield f"'{projection.name}' has other synapses than before", projection.origin


def _relay_problem(before: Network, after: Network, relay: Population, sent: dict[str, Array]) -> str:
    """What is wrong with a relay in one sample, or nothing."""
    if len(after.incoming[relay.name]) != 1 or len(after.outgoing[relay.name]) != 1:
        return f"'{relay.name}' has other projections than one from its source and one to its target"
    (parts,), (total,) = after.incoming[relay.name], after.outgoing[relay.name]
    whole = next((p for p in before.projections if p.name + SUM == total.name), None)
    if whole is None or (whole.source, whole.target) != (parts.source, total.target):
        return f"'{relay.name}' stands for no projection of before"
    worth = int(np.max(relay.neuron.threshold)) if isinstance(relay.neuron, LIF) else 1
    unit = int(total.connectivity.weight.max())
    if not np.array_equal(unit * np.exp2(-total.shift), worth * np.exp2(-whole.shift)):
        return f"a message of '{relay.name}' counts as something else than the sum that it stands for"
    partial = _sums(parts.connectivity, sent[parts.source])
    if not np.array_equal(_sums(total.connectivity, partial), unit * _sums(whole.connectivity, sent[parts.source])):
        return f"the partial sums of '{relay.name}' do not add up to those of '{whole.name}'"
    held = np.abs(partial.sum(axis=0) - worth * sent[relay.name].sum(axis=0))
    allowed = worth + np.maximum(np.abs(partial) - worth, 0).sum(axis=0) if isinstance(relay.neuron, LIF) else 0
    over = int((held > allowed).sum())
    return f"{over} neurons of '{relay.name}' hold back more than one threshold ({worth})" if over else ""


def _sums(operator: Connectivity, messages: Array) -> Array:
    """(M, n_out) W m of (M, n_in) messages, channels last, without bias and shift."""
    total: Array = np.zeros((len(messages), size(operator.out_shape)), dtype=np.int64)
    plan(operator, np.int64).add(np.ascontiguousarray(messages), total)
    return total
