"""What `nmc explore` may vary, and one choice of it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nmc.backends.api import Options
from nmc.hardware.target import Target
from nmc.ir.diagnostic import DiagnosticSink, ExitCode
from nmc.ir.neurons import Reset
from nmc.passes.convert.thresholds import RULES

NEEDS: Mapping[str, str] = {
    "rate": "lif",
    "signed": "signed",
    "burst": "burst",
    "graded": "graded-relu",
    "sigma-delta": "sigma-delta",
}
"""The neuron model of a target (`neurons.models`) that each coding needs."""

TIMESTEPS = (4, 8, 16, 32)
LEVELS = (3, 4, 7)
WAITS = ("0", "auto")
THRESHOLDS = ("searched", "min-error", "percentile")
"""Searched on real spikes, or by a rule on the float activations, with weights as they are and biases corrected.

What is varied unless the user says; any rule of `nmc.passes.convert.thresholds` may be named.
"""

BITS = (8, 6, 4)

SPIKING = ("rate", "signed", "burst")
"""Codings with thresholds and resets."""

PARAMETERS: Mapping[str, str] = {
    "target": "the chip; only where several are searched",
    "coding": "how values become messages",
    "timesteps": "T; no choice for graded",
    "levels": "most spikes of a burst",
    "wait": "steps that layers wait before they may fire",
    "stop": "whether samples stop once their answer is clear; only where it is varied",
    "reset": "of spiking neurons",
    "weight-bits": "bits of a weight",
    "threshold": "how thresholds are found",
}
"""What may be varied, by the name that ``--vary`` takes."""


@dataclass(frozen=True)
class Space:
    """What a search may choose from.

    Attributes:
        choices: by `PARAMETERS` but for the target, in their order; at least one value each.
        target: the target of all its choices, as the user names it; empty where a search has one only.
    """

    choices: Mapping[str, tuple[str, ...]]
    target: str = ""

    @classmethod
    def of(cls, target: Target, options: Options) -> Space:
        """Everything that a target's neurons and weights offer, up to the T that was asked for."""
        models, bits = target.neurons.models, target.weights.bits
        steps = [t for t in TIMESTEPS if t < options.timesteps]
        return cls(
            {
                "coding": codings_of(target),
                "timesteps": tuple(str(t) for t in (*steps, options.timesteps)),
                "levels": tuple(str(n) for n in LEVELS) if "burst" in models else ("4",),
                "wait": WAITS,
                "stop": (options.stop,),
                "reset": tuple(str(r) for r in target.neurons.resets),
                "weight-bits": tuple(str(b) for b in (bits, *(b for b in BITS if b < bits))),
                "threshold": THRESHOLDS,
            }
        )

    def varied(self, texts: Sequence[str]) -> Space:
        """With other choices, ``name=a|b|c`` each.

        Raises:
            NmcError: exit 2, unknown names and malformed values: all at once.
        """
        sink, choices = DiagnosticSink(), dict(self.choices)
        for text in texts:
            name, equals, values = text.partition("=")
            found = listed(values)
            if name not in PARAMETERS:
                close = difflib.get_close_matches(name, list(PARAMETERS), 1)
                hint = f"did you mean '{close[0]}'?" if close else f"one of {', '.join(PARAMETERS)}"
                sink.error("bad-option", f"--vary: nothing is called '{name}'", help=hint)
            elif not equals or not all(found):
                sink.error("bad-option", f"--vary takes {name or 'name'}=a|b|c; got '{text}'")
            elif name != "target":
                _check(sink, name, found)
                choices[name] = found
        sink.raise_errors(ExitCode.USAGE)
        return replace(self, choices=choices)

    def named(self, target: str, own: Space) -> Space:
        """As one of several spaces: choices have its target, and codings and resets are those that it has, if any.

        Args:
            target: its name.
            own: everything that the target offers.
        """
        choices = dict(self.choices)
        for name in ("coding", "reset"):
            offered = tuple(value for value in choices[name] if value in own.choices[name])
            choices[name] = offered or choices[name]
        return Space(choices, target)

    def active(self, chosen: Mapping[str, str]) -> tuple[str, ...]:
        """The parameters that mean something beside a coding."""
        coding = chosen["coding"]
        names = ["target", "coding", "weight-bits"] if self.target else ["coding", "weight-bits"]
        if coding != "graded":
            names.append("timesteps")
        if coding in SPIKING:
            names += ["wait", "reset", "threshold"]
            names += ["stop"] if self.choices["stop"] != ("never",) else []
        if coding == "burst":
            names.append("levels")
        return tuple(name for name in PARAMETERS if name in names)


def listed(values: str) -> tuple[str, ...]:
    """``a|b|c`` or ``a,b,c``, each once."""
    return tuple(dict.fromkeys(value.strip() for value in values.replace(",", "|").split("|")))


def codings_of(target: Target) -> tuple[str, ...]:
    """The codings whose neurons a target has."""
    return tuple(coding for coding, model in NEEDS.items() if model in target.neurons.models)


NUMBERS: Mapping[str, tuple[int, int]] = {"timesteps": (1, 4096), "levels": (2, 127), "weight-bits": (2, 16)}
"""The range of the parameters that are numbers."""

WORDS: Mapping[str, tuple[str, ...]] = {
    "coding": tuple(NEEDS),
    "wait": ("0", "1", "auto"),
    "stop": ("never", "margin"),
    "reset": tuple(str(reset) for reset in Reset),
    "threshold": ("searched", *RULES),
}


def _check(sink: DiagnosticSink, name: str, values: Sequence[str]) -> None:
    for value in values:
        if name in NUMBERS:
            low, high = NUMBERS[name]
            if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
                sink.error("bad-option", f"--vary {name} takes numbers from {low} to {high}; got '{value}'")
        elif name in WORDS and value not in WORDS[name]:
            sink.error("bad-option", f"--vary {name} takes {', '.join(WORDS[name])}; got '{value}'")


@dataclass(frozen=True)
class Choice:
    """One point of a space.

    Attributes:
        values: by parameter, those that mean something beside its coding.
    """

    values: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, space: Space, chosen: Mapping[str, str]) -> Choice:
        """Without what its coding has no use for."""
        given = {**chosen, "target": space.target}
        return cls(tuple((name, given[name]) for name in space.active(chosen)))

    @property
    def target(self) -> str:
        """The target, where the search has several; else empty."""
        return dict(self.values).get("target", "")

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.values)

    def options(self, base: Options) -> Options:
        """The options of a compile."""
        given = dict(self.values)
        changed = replace(
            base,
            coding=given["coding"],
            timesteps=int(given.get("timesteps", base.timesteps)),
            levels=int(given["levels"]) if "levels" in given else None,
            wait=given.get("wait", "0"),
            stop=given.get("stop", "never"),
            reset=Reset(given["reset"]) if "reset" in given else None,
            weight_bits=int(given["weight-bits"]),
        )
        return replace(changed, settings={**base.settings, **self._settings()})

    def _settings(self) -> Mapping[str, str]:
        rule = dict(self.values).get("threshold", "searched")
        if rule == "searched":
            return {}
        unfitted = {"calibrate-layers.refit": "false", "calibrate-layers.rounds": "0"}
        return {"convert-rate.threshold": rule, **unfitted}

    def toml(self) -> str:
        """The keys of ``nmc compile --config``."""
        lines = [
            f"{name} = {value}" if name in NUMBERS else f'{name} = "{value}"'
            for name, value in self.values
            if name not in ("target", "threshold")
        ]
        settings = self._settings()
        lines += ["", "[set]", *(f'"{key}" = "{value}"' for key, value in settings.items())] if settings else []
        return "\n".join(lines) + "\n"
