"""One layer of calibrate-layers: weights, then neurons, then what the spikes leave of the activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from nmc.ir.connectivity import Array
from nmc.ir.network import Population, Projection
from nmc.ir.neurons import IF, LIF, IdealIntegrator, Integrator
from nmc.ir.reference import per_channel
from nmc.kernels.calibrate_rows import Rows
from nmc.kernels.calibrate_solve import Jitter, ridge
from nmc.passes.quantize.clip_weights import coarse
from nmc.passes.quantize.quantize_rate import Quantizer, StoredLayer
from nmc.passes.quantize.reconstruct_weights import Reconstruction
from nmc.passes.quantize.refit_weights import (
    INPUTS_MAX,
    JITTER_ROWS,
    STRENGTH,
    Design,
    design,
    fittable,
    refit,
    refit_readout,
)
from nmc.passes.quantize.search_neuron import (
    UNIT,
    Candidate,
    FoundNeuron,
    LayerDrive,
    match_means,
    search_neuron,
)


class Effort(Protocol):
    """What may be done: the options of calibrate-layers."""

    @property
    def rounds(self) -> int: ...
    @property
    def refit(self) -> bool: ...
    @property
    def feedback(self) -> int: ...
    @property
    def evenness(self) -> float: ...
    @property
    def smoothness(self) -> float: ...


@dataclass(frozen=True, eq=False)
class LayerTask:
    """What there is to know of a layer.

    Attributes:
        population: over reals.
        incoming: its projections, folded with the scales that their sources now have.
        rows: drawn for it.
        patches: by projection, what the rows read.
        drive: (rows, C) the float network's pre-activations.
        largest: (C,) the largest of them in all samples.
        scales: decode scales of the sources.
        timesteps: T.
        quantizer: of the target.
        timed: whether neurons that fire hear it: then it matters when its spikes come.
        reconstruction: how its weights are rounded; None: each to the nearest.
    """

    population: Population
    incoming: tuple[Projection, ...]
    rows: Rows
    patches: Mapping[str, Array]
    drive: Array
    largest: Array
    scales: Mapping[str, Array]
    timesteps: int
    quantizer: Quantizer
    timed: bool = True
    reconstruction: Reconstruction | None = None

    @property
    def one_matrix(self) -> bool:
        """Whether every row is multiplied with the same weights."""
        return self.rows.local or len(self.population.shape) == 1

    @property
    def top(self) -> Array:
        """(C,) the largest activation, positive: a channel that never was active takes the layer's."""
        above = np.where(self.largest > 0, self.largest, max(float(self.largest.max()), 0.0))
        return np.where(above > 0, above, 1.0)


@dataclass(frozen=True, eq=False)
class CalibratedLayer:
    """A layer over reals.

    Attributes:
        scale: (C,) decode scale; None for a read-out or an input.
    """

    population: Population
    projections: tuple[Projection, ...]
    scale: Array | None = None


def calibrate_layer(task: LayerTask, effort: Effort) -> CalibratedLayer:
    """The layer with weights and neurons that fit what its sources send."""
    neuron = task.population.neuron
    if coarse(task.quantizer.grid) and task.one_matrix:
        given = task.incoming, task.patches, task.timesteps, task.quantizer
        task = replace(task, reconstruction=Reconstruction.of(*given))
    match neuron:
        case IF():
            return _spiking(task, neuron, effort)
        case IdealIntegrator():
            return _readout(task, neuron, effort)
        case _:
            raise TypeError(f"{type(neuron).__name__} in a rate network")


def _design(task: LayerTask) -> Design | None:
    free = [p for p in task.incoming if fittable(p)]
    # What comes from a source is exact: there is nothing to make up for.
    free = [p for p in free if task.patches[p.name].shape[1] == task.timesteps or task.timesteps == 1]
    if not free or not task.one_matrix:
        return None
    inputs = sum(task.patches[p.name].shape[2] for p in free)
    return design(free, task.patches, task.scales, task.timesteps) if inputs <= INPUTS_MAX else None


def _with_jitter(task: LayerTask, fit: Design, stored: StoredLayer, kept: Sequence[str], weight: float) -> Design:
    """The design that knows how uneven its inputs arrive, beside what the ``kept`` projections bring."""
    if task.timesteps < 2 or not weight:
        return fit
    part = slice(0, len(task.rows), -(-len(task.rows) // JITTER_ROWS))
    besides = np.zeros((len(task.rows), task.timesteps, task.population.shape[0]), dtype=np.float32)
    for projection in stored.projections:
        if projection.name in kept:
            besides += task.rows.sums(projection, task.patches[projection.name])
    patches = np.concatenate([task.patches[p.name][part] for p in fit.projections], axis=2)
    real = besides[part].astype(np.float64) * stored.unit / task.timesteps
    return replace(fit, jitter=Jitter.of(patches, fit.unit, real), smoothness=weight)


def _delivered(task: LayerTask, stored: StoredLayer, names: Sequence[str]) -> Array:
    """(rows, C) real value per inference that stored projections deliver."""
    total = np.zeros((len(task.rows), task.population.shape[0]))
    for projection in stored.projections:
        if projection.name in names:
            sums = task.rows.sums(projection, task.patches[projection.name])
            total += sums.sum(axis=1, dtype=np.float64) * (task.timesteps // sums.shape[1])
    return total * stored.unit / task.timesteps


def _merged(task: LayerTask, changed: Sequence[Projection]) -> tuple[Projection, ...]:
    new = {p.name: p for p in changed}
    return tuple(new.get(p.name, p) for p in task.incoming)


def _spiking(task: LayerTask, neuron: IF, effort: Effort) -> CalibratedLayer:
    population = task.population
    # The thresholds that weights and biases must leave room for.
    wide = replace(neuron, threshold=per_channel(task.top, population.shape)) if effort.rounds else neuron
    layer = _Layer(replace(population, neuron=wide), task.incoming)
    fit = _design(task) if effort.refit else None
    best = _refitted(task, layer, fit, effort) if fit is not None else _with_neuron(task, layer, effort)
    feedback = min(effort.feedback, 1) if fit is not None and fit.wide else effort.feedback
    for _ in range(feedback if effort.rounds else 0):
        moved = _fed_back(task, best)
        if moved is None:
            break
        tried = replace(_with_neuron(task, moved, effort, best), fit=best.fit)
        if tried.error >= best.error:
            break
        best = tried
    return CalibratedLayer(best.done.population, best.done.projections, best.found.scale)


def _refitted(task: LayerTask, layer: _Layer, fit: Design, effort: Effort) -> _Tried:
    """The layer with weights fitted again, and the best neurons for them."""
    stored = task.quantizer.store(layer.population, layer.projections)
    kept = [p.name for p in task.incoming if p.name not in {q.name for q in fit.projections}]
    wanted = task.drive - _delivered(task, stored, kept)
    fit = _with_jitter(task, fit, stored, kept, effort.smoothness)
    projections, offset = refit(fit, wanted, task.rows.parameter(_real(layer.population).bias))
    fitted = layer.changed(_merged(task, projections), offset)
    return replace(_with_neuron(task, fitted, effort), fit=fit)


def _real(population: Population) -> IF | IdealIntegrator:
    neuron = population.neuron
    if not isinstance(neuron, IF | IdealIntegrator):
        raise TypeError(f"{type(neuron).__name__} in a network over reals")
    return neuron


@dataclass(frozen=True, eq=False)
class _Layer:
    """A population over reals and its projections."""

    population: Population
    projections: tuple[Projection, ...]

    def changed(self, projections: tuple[Projection, ...], offset: Array) -> _Layer:
        """With other weights, and ``offset`` (C,) added to the bias."""
        neuron = _real(self.population)
        bias = neuron.bias + per_channel(offset, self.population.shape)
        return _Layer(replace(self.population, neuron=replace(neuron, bias=bias)), projections)


@dataclass(frozen=True, eq=False)
class _Tried:
    """A layer with some weights and the best neurons for them.

    Attributes:
        layer: before its neurons were searched.
        done: with them.
        found: the neurons.
        unit: (C,) real value of one unit of their sums.
        fit: what its weights come from, if they were fitted.
    """

    layer: _Layer
    done: _Layer
    found: FoundNeuron
    unit: Array
    fit: Design | None = None

    @property
    def error(self) -> float:
        """What the spikes leave of the activations, over all channels."""
        return float(np.add.reduce(self.found.error))


def _fed_back(task: LayerTask, tried: _Tried) -> _Layer | None:
    """The weights moved by what explains the error that the spikes leave; None where they are fixed.

    Rows in which neither the neuron nor the activation is above zero have no error that weights
    could mend.
    """
    fit, found = tried.fit, tried.found
    if fit is None:
        return None
    values = np.maximum(task.drive, 0.0)
    error = values - found.counts * (found.scale / task.timesteps)
    error = np.where((task.drive > 0) | (found.counts > 0), error - error.mean(axis=0), 0.0)
    names = {p.name for p in fit.projections}
    now = replace(fit, projections=tuple(p for p in tried.layer.projections if p.name in names))
    change, offset = ridge(fit.counts, fit.unit, error, STRENGTH, now.pull(now.real_weights()), fit.gram)
    new = {p.name: p for p in now.moved(change)}
    return tried.layer.changed(tuple(new.get(p.name, p) for p in tried.layer.projections), offset)


def _drive(task: LayerTask, stored: StoredLayer, evenness: float) -> LayerDrive:
    neuron = stored.neuron
    if not isinstance(neuron, LIF):
        raise TypeError(f"{type(neuron).__name__} does not spike")
    total = np.zeros((len(task.rows), task.timesteps, task.population.shape[0]), dtype=np.float32)
    for projection in stored.projections:
        total += task.rows.sums(projection, task.patches[projection.name])
    return LayerDrive(
        neuron,
        total,
        task.rows.parameter(neuron.bias),
        np.maximum(task.drive, 0.0),
        task.top,
        stored.unit,
        task.population.wait,
        task.quantizer.target.neurons.threshold_max,
        evenness if task.timed else 0.0,
    )


def _with_neuron(task: LayerTask, layer: _Layer, effort: Effort, like: _Tried | None = None) -> _Tried:
    """The best neurons for a layer's weights; those of a layer ``like`` it are only refined."""
    real, layer = layer, _rounded(task, layer)
    stored = task.quantizer.store(layer.population, layer.projections)
    drive = _drive(task, stored, effort.evenness)
    start = None if like is None else (like.found, like.unit)
    given = _as_stored(task, drive.stored)
    found = search_neuron(drive, rounds=effort.rounds, start=start) if effort.rounds else match_means(drive, given)
    done = _applied(layer, stored, found)
    again = task.quantizer.store(done.population, done.projections)
    if not np.array_equal(again.unit, stored.unit):
        # The found thresholds took other units: what is stored now is measured once more.
        drive = _drive(task, again, effort.evenness)
        found = match_means(drive, _as_stored(task, drive.stored))
        done = _applied(done, again, found)
    return _Tried(real, done, found, again.unit)


def _rounded(task: LayerTask, layer: _Layer) -> _Layer:
    """The layer with weights that are stored as they are, where rounding is more than taking the nearest."""
    if task.reconstruction is None:
        return layer
    return layer.changed(*task.reconstruction.rounded(layer.population, layer.projections, task.timesteps))


def _as_stored(task: LayerTask, neuron: LIF) -> Candidate:
    channels = np.zeros(task.population.shape[0])
    threshold = task.rows.parameter(neuron.threshold)[0].astype(np.float64)
    return Candidate(threshold, task.rows.parameter(neuron.v0)[0].astype(np.float64), channels)


def _applied(layer: _Layer, stored: StoredLayer, found: FoundNeuron) -> _Layer:
    """The layer over reals whose stored form has the found neurons."""
    population, neuron, candidate = layer.population, layer.population.neuron, found.candidate
    if not isinstance(neuron, IF):
        raise TypeError(f"{type(neuron).__name__} does not spike")
    shape, per_v = population.shape, stored.unit / UNIT
    new = replace(
        neuron,
        threshold=per_channel(candidate.threshold * stored.unit, shape),
        v0=per_channel(candidate.v0 * per_v, shape),
        bias=neuron.bias + per_channel(candidate.bias_shift * per_v, shape),
    )
    return _Layer(replace(population, neuron=new), layer.projections)


def _readout(task: LayerTask, neuron: IdealIntegrator, effort: Effort) -> CalibratedLayer:
    layer = _Layer(task.population, task.incoming)
    fit = _design(task) if effort.refit else None
    if fit is not None and len(fit.projections) == len(task.incoming):
        fitted = refit_readout(fit, task.drive, task.rows.parameter(neuron.bias))
        if fitted is not None:
            layer = layer.changed(_merged(task, fitted[0]), fitted[1])
    layer = _rounded(task, layer)
    stored = task.quantizer.store(layer.population, layer.projections)
    if not isinstance(stored.neuron, Integrator):
        raise TypeError(f"{type(stored.neuron).__name__} is no read-out")
    got = _delivered(task, stored, [p.name for p in task.incoming])
    got += task.rows.parameter(stored.neuron.bias) * stored.unit / UNIT
    layer = layer.changed(layer.projections, (task.drive - got).mean(axis=0))
    return CalibratedLayer(layer.population, layer.projections)
