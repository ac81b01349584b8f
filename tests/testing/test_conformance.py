"""The suite itself: it finds what it is for, and exclusions are strict."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from nmc.backends.api import API_VERSION, Options, Payload
from nmc.backends.loihi.backend import LoihiBackend
from nmc.backends.standard import standard_pipeline
from nmc.hardware.target import Target
from nmc.ir.connectivity import Array
from nmc.ir.mapping import Routed
from nmc.passes.base import Pipeline
from nmc.runtime.artifact import Artifact
from nmc.runtime.device import Device, Execution
from nmc.runtime.simulator import simulate
from nmc.testing.conformance import checks, family, suite
from nmc.testing.conformance.bench import Bench, Case
from nmc.testing.conformance.digest import digest_elsewhere, payload_digest

ROOT = Path(__file__).resolve().parents[2]


class Plain:
    """A backend without faults: one target, an emitter that writes the printed mapping, no device."""

    name = "loihi"
    api_version = API_VERSION

    def targets(self) -> Mapping[str, Target]:
        return {"loihi1": LoihiBackend().targets()["loihi1"]}

    def pipeline(self, target: Target, options: Options) -> Pipeline:
        return standard_pipeline(target, options)

    def emit(self, routed: Routed, target: Target, options: Options) -> Payload:
        return {"plain/cores.txt": repr(routed.clusters).encode()}

    def devices(self) -> Mapping[str, Device]:
        return {}


class OtherVersion(Plain):
    api_version = API_VERSION + 1


class OtherFamily(Plain):
    name = "sparrow"


class Unsourced(Plain):
    def targets(self) -> Mapping[str, Target]:
        (target,) = super().targets().values()
        return {"loihi1": replace(target, sources={k: v for k, v in target.sources.items() if k != "core.neurons"})}


class InCode(Plain):
    def targets(self) -> Mapping[str, Target]:
        (target,) = super().targets().values()
        return {"loihi1": replace(target, hash="")}


class TakesAnything(Plain):
    """Compiles as if every option were the default, for a chip as large as needed."""

    def pipeline(self, target: Target, options: Options) -> Pipeline:
        return standard_pipeline(LoihiBackend().targets()["loihi2"], Options(timesteps=options.timesteps))


class CountsCompiles(Plain):
    def __init__(self) -> None:
        CountsCompiles.count += 1

    count = 0

    def emit(self, routed: Routed, target: Target, options: Options) -> Payload:
        return {"program.txt": str(CountsCompiles.count).encode()}


class OrderOfHashes(Plain):
    def emit(self, routed: Routed, target: Target, options: Options) -> Payload:
        return {
            "program.txt": " ".join({p.name for p in routed.network.projections} | set(map(str, range(20)))).encode()
        }


class HoldsPath(Plain):
    def emit(self, routed: Routed, target: Target, options: Options) -> Payload:
        return {"program.txt": str(Path.home() / "build").encode()}


class EmitsNothing(Plain):
    def emit(self, routed: Routed, target: Target, options: Options) -> Payload:
        return {}


CASE = Case("loihi1", "dense", "rate", LoihiBackend().targets()["loihi1"].neurons.resets[0])


@pytest.mark.parametrize(
    ("backend", "check", "text"),
    [
        (OtherVersion, family.interface, "api_version is 2"),
        (OtherFamily, family.interface, "is of family 'loihi', not 'sparrow'"),
        (Unsourced, family.sources, "core.neurons"),
        (InCode, family.sources, "not loaded from a target file"),
        (TakesAnything, family.refusals, "was accepted"),
        (OrderOfHashes, family.same_program_elsewhere, "differs elsewhere"),
    ],
)
def test_faults_of_a_family_are_found(backend: type, check: Callable[..., None], text: str) -> None:
    bench = Bench(backend, timesteps=4)
    arguments = () if check is family.interface else ("loihi1",)
    check(Bench(Plain, timesteps=4), *arguments)
    with pytest.raises(AssertionError, match=text):
        check(bench, *arguments)


@pytest.mark.parametrize(
    ("backend", "text"),
    [
        (CountsCompiles, "compiled twice"),
        (HoldsPath, "absolute path"),
        (EmitsNothing, "nothing was emitted"),
    ],
)
def test_faults_of_an_emitter_are_found(backend: type, text: str) -> None:
    for make, fails in ((Plain, False), (backend, True)):
        bench = Bench(make, timesteps=4)
        artifact = bench.compile(CASE)
        if not fails:
            checks.same_program(bench, CASE, artifact)
            continue
        with pytest.raises(AssertionError, match=text):
            checks.same_program(bench, CASE, artifact)


@pytest.fixture(scope="module")
def compiled() -> tuple[Bench, Artifact]:
    bench = Bench(Plain, timesteps=8)
    return bench, bench.compile(CASE)


class Flipping:
    """A device that is wrong in one value."""

    name = "flipping"

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def missing(self) -> str | None:
        return None

    def execute(self, artifact: Artifact, inputs: Array, *, trace: frozenset[str] = frozenset()) -> Execution:
        done = simulate(artifact.routed, inputs, trace=trace)
        if self.kind == "readout":
            done.readout[-1, -1] += 1
        elif self.kind:
            values = list(getattr(done.trace, self.kind).values())[1]
            values[1, 2, 3] += 1
        return done


@pytest.mark.parametrize("kind", ["readout", "messages", "potentials"])
def test_one_wrong_value_of_a_device_is_found(compiled: tuple[Bench, Artifact], kind: str) -> None:
    bench, artifact = compiled
    checks.device(bench, CASE, artifact, Flipping(""))
    with pytest.raises(AssertionError, match=r"differs in 1 of"):
        checks.device(bench, CASE, artifact, Flipping(kind))


def test_a_device_may_trace_nothing(compiled: tuple[Bench, Artifact]) -> None:
    class Silent(Flipping):
        def execute(self, artifact: Artifact, inputs: Array, *, trace: frozenset[str] = frozenset()) -> Execution:
            return super().execute(artifact, inputs)

    bench, artifact = compiled
    checks.device(bench, CASE, artifact, Silent(""))
    with pytest.raises(AssertionError, match="read-out"):
        checks.device(bench, CASE, artifact, Silent("readout"))


def test_wrong_mappings_and_numbers_are_found(compiled: tuple[Bench, Artifact]) -> None:
    bench, artifact = compiled
    routed = artifact.routed
    lost = replace(artifact, routed=replace(routed, routes=routed.routes[1:]))
    network = routed.network
    first = network.projections[0]
    odd = replace(first, connectivity=first.connectivity.with_weight(first.connectivity.weight + 1))
    wrong = replace(network, projections=(odd, *network.projections[1:]))
    for check, broken in (
        (checks.checker, lost),
        (checks.simulator, lost),
        (checks.stored_numbers, replace(artifact, routed=replace(routed, network=wrong))),
    ):
        check(bench, CASE, artifact)
        with pytest.raises(AssertionError):
            check(bench, CASE, broken)


def test_an_output_that_has_nothing_to_do_with_the_network_is_found(compiled: tuple[Bench, Artifact]) -> None:
    bench, artifact = compiled
    routed = artifact.routed
    last = routed.network.projections[-1]
    negated = replace(last, connectivity=last.connectivity.with_weight(-last.connectivity.weight))
    wrong = replace(routed.network, projections=(*routed.network.projections[:-1], negated))
    with pytest.raises(AssertionError, match="correlation"):
        checks.follows_the_network(bench, CASE, replace(artifact, routed=replace(routed, network=wrong)))


def test_a_program_is_the_same_elsewhere(compiled: tuple[Bench, Artifact]) -> None:
    _, artifact = compiled
    assert digest_elsewhere(Plain, str(CASE), 8, 7) == payload_digest(artifact.payload)


def test_a_backend_that_cannot_be_asked_fails_in_one_test() -> None:
    class Broken(Plain):
        def targets(self) -> Mapping[str, Target]:
            raise RuntimeError("no licence")

    made = suite(Broken)
    assert "test_interface" in made
    with pytest.raises(RuntimeError, match="no licence"):
        family.interface(Bench(Broken))


EXCLUDING = """
from nmc.testing.conformance import suite
from tests.testing.test_conformance import Plain, HoldsPath

globals().update(suite(BACKEND, exclusions={"same_program/*-dense-*": "keeps the path of its build folder"}))
"""


@pytest.mark.parametrize(("backend", "code", "word"), [("HoldsPath", 0, "1 xfailed"), ("Plain", 1, "XPASS(strict)")])
def test_exclusions_are_strict(tmp_path: Path, backend: str, code: int, word: str) -> None:
    file = tmp_path / "test_excluded.py"
    file.write_text(EXCLUDING.replace("BACKEND", backend))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-k", "same_program and dense", file],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert word in done.stdout
    assert "keeps the path of its build folder" in done.stdout


def test_an_exclusion_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no-such-check"):
        suite(Plain, exclusions={"no-such-check/*": "never"})
    with pytest.raises(ValueError, match="device-lava"):
        suite(Plain, marks={"device-lava/*": pytest.mark.lava})
