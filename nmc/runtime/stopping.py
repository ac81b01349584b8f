"""Dynamic timesteps: an answer is taken as soon as it is clear (docs/arithmetic.md, section 6).

After each step of the output's window the *margin* is what the best class leads the second by, with the
read-out taken for its rate: ``(best - second) * T / t``, in the output's unit. A sample stops at the first
step whose margin reaches that step's threshold, else after T steps.

Thresholds follow one curve, ``scale * sqrt(T / t - 1)``: what is added to a read-out in the steps that are
left strays from what it gained so far by as much as a sample of t draws from T strays from all of them. So
one number is fitted, and no labels are needed: how many calibration samples would change their answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nmc.ir.connectivity import Array, IndexArray
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.network import Network
from nmc.ir.reference import decode, per_channel
from nmc.runtime.labels import judges

CODINGS = ("rate", "signed", "burst")
"""Codings whose read-out grows with the steps."""

GAIN = 0.75
"""Share of the steps below which running samples in two parts is worth its trouble."""

TAIL = 16
"""One sample of so many belongs to the tail that is extrapolated, at least `LEAST`."""

LEAST = 4

RAREST = 1e-6
"""Chances below it are not told apart."""

LOWEST = 1e-30
"""The scale where no sample ever changes: a tie is no margin."""


@dataclass(frozen=True)
class MarginRule:
    """When a sample stops.

    Attributes:
        thresholds: of the steps 1 ... T - 1: smallest margin at which a sample stops there.
        max_changed: per cent of the answers of new samples that may differ from those after T steps.
        changed: answers of the calibration samples that differ; ``samples``: how many there are.
        stopped: of the steps 1 ... T, how many calibration samples stop there.
    """

    thresholds: tuple[float, ...]
    max_changed: float
    changed: int
    samples: int
    stopped: tuple[int, ...]

    @property
    def mean_steps(self) -> float:
        """Mean input steps of the calibration samples."""
        return sum(step * count for step, count in enumerate(self.stopped, 1)) / self.samples

    @property
    def assured(self) -> float:
        """Per cent of the answers of new samples that change at most, as far as so many samples can tell."""
        return 100 * (self.changed + 1) / (self.samples + 1)

    def to_dict(self) -> dict[str, object]:
        """The form of the manifest."""
        return {"rule": "margin", **asdict(self), "mean_steps": self.mean_steps}


def refuse_coding(coding: str) -> None:
    """Check that the read-outs of a coding grow with the steps.

    Raises:
        NmcError: ``stop-not-possible`` (exit 2).
    """
    if coding not in CODINGS:
        why = "takes one step" if coding == "graded" else "does not add its read-out up over the steps"
        raise _refused(f"coding '{coding}' {why}")


def refuse_outputs(network: Network) -> None:
    """Check that a network has one output, and that its answer is a class.

    Raises:
        NmcError: ``stop-not-possible`` (exit 2).
    """
    if len(network.outputs) > 1:
        raise _refused(f"the network has {len(network.outputs)} outputs, and one margin says nothing about the others")
    judge = judges(network)[0]
    if not judge.by_class:
        raise _refused(f"the output '{judge.name}' gives values and no class, which have no margin")


def _refused(why: str) -> NmcError:
    return NmcError.single(
        "stop-not-possible",
        f"no sample can stop early: {why}",
        ExitCode.USAGE,
        help=f"leave --stop margin out; it is for classes, with --coding {', '.join(CODINGS)}",
    )


def margins(network: Network, curve: Array) -> tuple[Array, IndexArray]:
    """Margins and answers after every step.

    Every compare is one of float64 products and differences that are the same everywhere, in this order:
    ``(best * scale - second * scale) * (T / t)``.

    Args:
        network: with one output, of classes.
        curve: (N, T, *population shape) read-outs after each step.

    Returns:
        (N, T) float64 margins in the output's unit, (N, T) int64 class numbers.
    """
    spec, steps = network.output, network.timesteps
    shape = network.by_name[spec.population].shape
    values = (curve * per_channel(spec.scale, shape)).astype(np.float64).reshape(*curve.shape[:2], -1)
    answer = values.argmax(axis=2)
    if values.shape[2] == 1:  # One score: the other class has none.
        values, answer = np.concatenate([values, 0 * values], axis=2), (values[:, :, 0] > 0).astype(np.int64)
    best = np.partition(values, values.shape[2] - 2, axis=2)[:, :, -2:]
    elapsed = steps / np.arange(1, curve.shape[1] + 1, dtype=np.float64)
    return (best[:, :, 1] - best[:, :, 0]) * elapsed, answer


def fit_margin(network: Network, curve: Array, max_changed: float) -> MarginRule:
    """The rule with the fewest steps that changes no more answers than it may.

    With n samples of which k change, a new sample of the same kind changes with a probability of at most
    (k + 1) / (n + 1): as many may change as keep this below ``max_changed``. A larger scale never
    makes more samples change than are counted: a sample counts as changed up to the largest scale with which
    it does. Where the samples are too few to assure this, the scale is extrapolated (`_fitted_scale`).

    Args:
        network: `refuse_outputs` let it pass.
        curve: (N, T, *population shape) read-outs of the calibration samples after each step.
        max_changed: per cent.
    """
    margin, answer = margins(network, curve)
    count, steps = margin.shape
    shape = np.sqrt(steps / np.arange(1, steps, dtype=np.float64) - 1)
    ratio = margin[:, :-1] / shape
    # A sample stops at a step, for some scale, if its ratio is above those of all steps before.
    before = np.maximum.accumulate(np.column_stack([np.zeros(count), ratio]), axis=1)[:, :-1]
    wrong = (ratio > before) & (answer[:, :-1] != answer[:, -1:])
    scale = _fitted_scale(np.where(wrong, ratio, 0.0).max(axis=1, initial=0.0), max_changed / 100)
    # A little above it, so that no rounding lets a sample in, and the same everywhere whatever a logarithm's last bit.
    thresholds = max(float(f"{scale * (1 + 1e-8):.9g}"), LOWEST) * shape
    stops = stop_steps(tuple(thresholds.tolist()), margin)
    changed = int((answer[np.arange(count), stops - 1] != answer[:, -1]).sum())
    stopped = np.bincount(stops, minlength=steps + 1)[1:]
    return MarginRule(tuple(thresholds.tolist()), max_changed, changed, count, tuple(stopped.tolist()))


def _fitted_scale(changes_up_to: Array, allowed: float) -> float:
    """The scale that a new sample needs with a chance of at most ``allowed``, by what each sample needs.

    Where n samples are too few for a count, what exceeds a high level is taken to fall off exponentially, as the
    tails of most distributions do: with the mean excess of the largest ones over the next. Measured with 128
    of 1,024 samples of ResNet-20 on CIFAR-10, 0.1 % allowed: 0.9 % of other samples change without this and
    0.15 % with it, for 1.7 steps of 32 more (benchmarks/dynamic_timesteps.py --few).
    """
    count, largest = len(changes_up_to), np.sort(changes_up_to)[::-1]
    may = math.floor((count + 1) * allowed + 1e-9) - 1
    if may >= 0:
        return float(largest[min(may, count - 1)])
    tail = min(max(count // TAIL, LEAST), count - 1)
    excess = float((largest[:tail] - largest[tail]).mean()) if tail else 0.0
    beyond = math.log(1 / ((count + 1) * max(allowed, RAREST)))
    return float(largest[0] + excess * max(beyond, 0.0))


def stop_steps(thresholds: tuple[float, ...], margin: Array) -> IndexArray:
    """(N,) the step, from 1, after which each sample stops: T where no threshold of the T - 1 is reached.

    ``margin``: (N, steps), of the first steps or of all.
    """
    known = margin[:, : len(thresholds)]
    last = np.ones((len(margin), 1), dtype=np.bool_)
    reached = np.column_stack([known >= np.array(thresholds[: known.shape[1]]), last])
    found = reached.argmax(axis=1) + 1
    return np.where(found > known.shape[1], len(thresholds) + 1, found)


def first_look(rule: MarginRule) -> int:
    """After how many steps most samples are done: those are run first, and only the others to the end.

    T where nothing is gained by it.
    """
    steps = len(rule.stopped)
    left = rule.samples - np.cumsum(rule.stopped)
    cost = np.arange(1, steps + 1) + steps * left / rule.samples
    return int(cost.argmin()) + 1 if cost.min() < GAIN * steps else steps


def stopped_readouts(curve: Array, steps: IndexArray) -> Array:
    """(N, *population shape) the read-out at each sample's last step."""
    return np.asarray(curve[np.arange(len(curve)), steps - 1])


def stopped_values(network: Network, readouts: Array, steps: IndexArray) -> Array:
    """Read-outs (N, *population shape) that ended early, as real values (N, *output shape): rates times T."""
    elapsed = (network.timesteps / steps).reshape(-1, *(1,) * (readouts.ndim - 1))
    return decode(network, readouts * elapsed)


def rule_of(manifest: Mapping[str, Any], network: Network) -> MarginRule | None:
    """The rule of an artifact; None if its samples take all steps.

    Raises:
        NmcError: ``artifact-corrupt`` (exit 3): a rule that does not fit the network.
    """
    found = manifest.get("stop")
    if found is None:
        return None
    try:
        rule = MarginRule(
            tuple(float(value) for value in found["thresholds"]),
            float(found["max_changed"]),
            int(found["changed"]),
            int(found["samples"]),
            tuple(int(count) for count in found["stopped"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _broken(f"lacks {error}") from error
    fits = len(rule.thresholds) == network.timesteps - 1 and len(rule.stopped) == network.timesteps
    positive = all(math.isfinite(value) and value > 0 for value in rule.thresholds)
    counts = rule.samples > 0 and sum(rule.stopped) == rule.samples and min(rule.stopped) >= 0
    if found.get("rule") != "margin" or not (fits and positive and counts):
        raise _broken("is no margin rule for its network")
    refuse_outputs(network)
    return rule


def _broken(what: str) -> NmcError:
    return NmcError.single("artifact-corrupt", f"the artifact's rule for stopping {what}", ExitCode.MODEL)
