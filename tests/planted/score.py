"""Plants every bug, one at a time: does it change the result, and which check stops the compile?"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nmc.backends.loihi import backend, emit
from nmc.compiler import driver
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.compiler.prove_network import StageProofs
from nmc.ir.connectivity import Array
from nmc.ir.diagnostic import NmcError
from nmc.ir.reference import decode, encode
from nmc.passes.check import CheckMapping
from nmc.passes.check.check_mapping import mapping_diagnostics
from nmc.runtime import artifact
from nmc.runtime.artifact import Artifact
from nmc.runtime.simulator import simulate
from tests.planted.networks import CASES, Case, stored_model, target_of
from tests.planted.planting import Bug, Patches

SAMPLES = 6


@dataclass(frozen=True)
class Verdict:
    """What became of one bug.

    Attributes:
        effect: what it changes where nothing checks; empty: nothing.
        check: slug of what stopped the compile; empty: nothing did.
        mode: of the compile that was stopped: ``every compile`` or ``--verify full``.
        message: of the first diagnostic.
    """

    bug: Bug
    effect: str
    check: str = ""
    mode: str = ""
    message: str = ""


@dataclass
class Bench:
    """Compiles cases, with and without bugs.

    Attributes:
        folder: for models, target files and artifacts.
    """

    folder: Path
    _sound: dict[str, tuple[Artifact, tuple[Array, ...]]] = field(default_factory=dict)

    def compile(self, case: Case, verify: str = "structure") -> Artifact:
        """The artifact of a case."""
        request = CompileRequest(target_of(case, self.folder), case.options, calib=case.inputs(), verify=verify)
        compiled = compile_file(stored_model(case, self.folder), request)
        assert compiled.artifact is not None
        return compiled.artifact

    def sound(self, name: str) -> tuple[Artifact, tuple[Array, ...]]:
        """A case compiled without bugs, and its outputs."""
        if name not in self._sound:
            made = self.compile(CASES[name])
            self._sound[name] = made, self._outputs(made, CASES[name])
        return self._sound[name]

    def _outputs(self, made: Artifact, case: Case) -> tuple[Array, ...]:
        network = made.network
        run = simulate(made.routed, encode(network, case.inputs(seed=1, samples=SAMPLES)))
        return tuple(decode(network, readout, i) for i, readout in enumerate(run.readouts))

    def judge(self, bug: Bug) -> Verdict:
        """Plant a bug and see."""
        self.sound(bug.case)
        effect = self._effect(bug)
        for verify, mode in (("structure", "every compile"), ("full", "--verify full")):
            with Patches() as patches:
                bug.plant(patches)
                try:
                    self.compile(CASES[bug.case], verify)
                except NmcError as error:
                    first = error.diagnostics[0]
                    return Verdict(bug, effect, first.slug, mode, first.message)
        return Verdict(bug, effect)

    def _effect(self, bug: Bug) -> str:
        """What the bug changes where no check looks."""
        sound, wanted = self.sound(bug.case)
        with Patches() as patches:
            _without_checks(patches)
            bug.plant(patches)
            found = self.compile(CASES[bug.case])
            if bug.stage == "artifact":
                path = self.folder / "planted.nmc"
                found.save(path)
                found = Artifact.load(path)
            if bug.stage == "emit":
                return "" if dict(found.payload) == dict(sound.payload) else "another program"
            got = self._outputs(found, CASES[bug.case])
        if any(not np.array_equal(a, b) for a, b in zip(got, wanted, strict=True)):
            scale = max(float(np.abs(w).max()) for w in wanted)
            apart = max(float(np.abs(a - b).max()) for a, b in zip(got, wanted, strict=True))
            return f"outputs differ by {apart / scale:.1%}"
        broken = mapping_diagnostics(found.routed, driver.find_target(target_of(CASES[bug.case], self.folder))[1])
        return broken[0].message if broken else ""


def _without_checks(patches: Patches) -> None:
    """Take every check of the compile out."""
    for name in (
        "verify_program",
        "prove_import",
        "prove_simplified",
        "prove_mapping",
        "prove_artifact",
        "prove_read_outs",
    ):
        if hasattr(driver, name):
            patches.put(driver, name, lambda *args, **given: None)
    patches.put(driver, "pin_diagnostics", lambda *args: ())
    patches.put(artifact, "verify_program", lambda program: None)
    patches.put(StageProofs, "after", lambda *args: None)
    patches.put(CheckMapping, "run", lambda step, program, context: program)
    patches.put(backend, "prove_program", lambda *args: None)
    # What Lava cannot do is refused before it is emitted: a check of the network too.
    patches.put(emit, "check_network", lambda *args: None)
    patches.put(emit, "check_constants", lambda *args: None)


def line(verdict: Verdict) -> str:
    """What became of a bug, for the table."""
    bug = verdict.bug
    check = f"{verdict.check} ({verdict.mode})" if verdict.check else "MISSED"
    return f"{bug.stage:<14}  {bug.name:<58}  {check:<38}  {verdict.effect or 'NO EFFECT'}"
