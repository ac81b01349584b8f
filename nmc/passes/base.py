"""Passes and pipelines.

A pass is a frozen dataclass whose fields are its options, so that the text form
(``quantize-weights{bits=8}``), the help and the tests agree for free.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, cast

import numpy as np

from nmc.hardware.target import Target
from nmc.ir.connectivity import Array
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError
from nmc.ir.layers import LayerGraph
from nmc.ir.mapping import Partitioned
from nmc.ir.network import Network

Program = LayerGraph | Network | Partitioned


class Oracle(Protocol):
    """Calibration inputs, and the float activations of the analog network on them."""

    @property
    def inputs(self) -> Array:
        """(N, ...) float32 inputs in the ONNX file's layout."""
        ...

    @property
    def from_data(self) -> bool:
        """Whether the inputs are the user's (False: seeded random, accuracy not assured)."""
        ...

    def activations(self, names: Iterable[str]) -> dict[str, Array]:
        """(M, *shape) values of the named layers of the network as it was simplified, on the first M <= N inputs."""
        ...


@dataclass(frozen=True)
class Context:
    """What a pass may look at besides its program: nothing else."""

    target: Target
    diagnostics: DiagnosticSink
    calibration: Oracle
    seed: int = 0
    progress: Callable[[str, float], None] = lambda text, fraction: None

    def generator(self, salt: str) -> np.random.Generator:
        """A generator that depends on the seed and on who asks, not on the order of asking."""
        return np.random.default_rng([self.seed, *salt.encode()])


class Pass(Protocol):
    """A step of the compiler.

    Attributes:
        name: verb phrase in kebab case.
        stage: ``simplify``, ``convert``, ``align``, ``quantize``, ``partition``, ``place``,
            ``route`` or ``check``.
        consumes, produces: program types.
    """

    @property
    def name(self) -> str: ...
    @property
    def stage(self) -> str: ...
    @property
    def consumes(self) -> type[Program]: ...
    @property
    def produces(self) -> type[Program]: ...

    # A pass takes the one level that it names in `consumes`; `Pipeline` checks it at run time.
    def run(self, program: Any, context: Context) -> Program:
        """The new program; the same object if nothing changed.

        Raises:
            NmcError: the program cannot be handled, with all reasons.
        """
        ...


def text_form(step: Pass) -> str:
    """``name{option=value,...}`` with the options that differ from their defaults."""
    given = {f.name: getattr(step, f.name) for f in fields(cast("type", step)) if getattr(step, f.name) != f.default}
    # True and False in small letters, as `--set` takes them.
    texts = {name: str(value).lower() if isinstance(value, bool) else value for name, value in given.items()}
    options = [f"{name.replace('_', '-')}={text}" for name, text in texts.items()]
    return step.name + ("{" + ",".join(options) + "}" if options else "")


@dataclass(frozen=True)
class Hooks:
    """What may happen between passes.

    Attributes:
        verify: called after each pass with the new program; raises on a broken invariant.
        prove: called then with (pass, program before, program after); raises where the pass did not keep
            what its level promises.
        after: called after each pass with (pass, program, seconds).
        stop_after: name of the stage to stop after.
    """

    verify: Callable[[Program], None] = lambda program: None
    after: Callable[[Pass, Program, float], None] = lambda step, program, seconds: None
    stop_after: str | None = None
    prove: Callable[[Pass, Program, Program], None] = lambda step, before, after: None


@dataclass(frozen=True)
class Pipeline:
    """Passes in order; types are checked when built."""

    steps: tuple[Pass, ...]
    text: str = field(init=False)

    def __post_init__(self) -> None:
        for before, after in zip(self.steps, self.steps[1:], strict=False):
            if not issubclass(before.produces, after.consumes):
                raise TypeError(
                    f"{after.name} needs a {after.consumes.__name__}, but {before.name} makes a "
                    f"{before.produces.__name__}"
                )
        object.__setattr__(self, "text", " ".join(text_form(step) for step in self.steps))

    def run(self, program: Program, context: Context, hooks: Hooks | None = None) -> Program:
        """Run all passes (up to the end of ``stop_after``), verifying after each.

        Raises:
            NmcError: from a pass, or `verify` found a broken invariant.
        """
        hooks = hooks or Hooks()
        for number, step in enumerate(self.steps):
            if not isinstance(program, step.consumes):
                raise TypeError(f"{step.name} needs a {step.consumes.__name__}, got {type(program).__name__}")
            begin = time.perf_counter()
            before, program = program, step.run(program, context)
            context.diagnostics.raise_errors(ExitCode.MODEL)
            try:
                hooks.verify(program)
            except NmcError as error:
                named = f"after pass {step.name}: {error}"
                raise NmcError.single("pass-broke-invariant", named, ExitCode.INTERNAL) from error
            hooks.prove(step, before, program)
            hooks.after(step, program, time.perf_counter() - begin)
            last_of_stage = number + 1 == len(self.steps) or self.steps[number + 1].stage != step.stage
            if hooks.stop_after == step.stage and last_of_stage:
                break
        return program
