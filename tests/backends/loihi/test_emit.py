"""What is emitted: exact matrices, stock processes, names as data only, equal bytes."""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import numpy as np
import pytest

from nmc.backends.loihi.emit import PROGRAM, emit_program
from nmc.backends.loihi.emit_neurons import never_fires
from nmc.backends.loihi.emit_processes import microcode, process_name
from nmc.backends.loihi.emit_synapses import matrix_text
from nmc.ir.connectivity import Connectivity, Conv2d, Dense, Pool, Skip, size, sparse_from_synapses
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.network import InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import IF, LIF, Binary, Burst, Fire, Graded, Integrator, Reset, SigmaDelta, Signed, Source
from nmc.ir.origin import Origin
from nmc.testing.random_networks import KINDS, random_network
from tests.golden.networks import network_of

HOSTILE = (
    'x"); import os; os.system("touch pwned")  #',
    "'''\nraise SystemExit\n'''",
    "../../../../etc/passwd",
    "a\\\n\r\tb\x00c",
    "{population} %s @BUILD@ @STEPS@",
    "名前\u202e",
)


def renamed(network: Network, names: tuple[str, ...]) -> Network:
    """The same network with every name and origin replaced."""
    new = {p.name: f"{names[i % len(names)]}{i}" for i, p in enumerate(network.populations)}
    origin = Origin(names[0], names[1], names[2])
    return replace(
        network,
        name=names[0],
        populations=tuple(replace(p, name=new[p.name], origin=origin) for p in network.populations),
        projections=tuple(
            replace(p, name=f"{names[i % len(names)]}{i}", source=new[p.source], target=new[p.target], origin=origin)
            for i, p in enumerate(network.projections)
        ),
        inputs=(replace(network.input, population=new[network.input.population]),),
        outputs=(replace(network.output, population=new[network.output.population]),),
        scales={new[name]: scale for name, scale in network.scales.items()},
    )


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An emitted program as a module, with Lava's modules replaced: for its matrix functions."""
    (tmp_path / "program.py").write_bytes(emit_program(random_network(0, kind="graded"))[PROGRAM])
    tree = ast.parse((tmp_path / "program.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("lava"):
            monkeypatch.setitem(sys.modules, node.module, MagicMock())
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("emitted_program", tmp_path / "program.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _cases() -> list[Connectivity]:
    rng = np.random.default_rng(5)

    def draw(*shape: int) -> np.ndarray:
        return rng.integers(-9, 10, size=shape)

    return [
        Dense(draw(5, 12), (3, 2, 2), (5,)),
        Conv2d(draw(4, 3, 3, 2), (3, 6, 5), (2, 1), (1, 0, 2, 1)),
        Conv2d(draw(4, 1, 2, 2), (2, 5, 6), (1, 2), (0, 1, 0, 0), (2, 1), 2),
        Conv2d(draw(3, 1, 3, 3), (3, 4, 4), pads=(1, 1, 1, 1), groups=3),
        Pool(draw(3), (3, 5, 4), (2, 3), (2, 1), (1, 0, 0, 1)),
        Skip(draw(3), (3, 2, 2)),
        Skip(draw(4), (4,)),
        sparse_from_synapses(rng.integers(0, 6, 20), rng.integers(0, 8, 20), draw(20), (2, 4), (6,)),
    ]


@pytest.mark.parametrize("connectivity", _cases(), ids=lambda c: type(c).__name__)
def test_program_builds_the_same_matrix(program: ModuleType, connectivity: Connectivity) -> None:
    arrays: dict[str, np.ndarray] = {}
    text = matrix_text(0, connectivity, arrays)
    name, *arguments = _call(text, arrays)
    matrix = getattr(program, str(name))(*arguments).toarray()
    expected = np.zeros((size(connectivity.out_shape), size(connectivity.in_shape)), dtype=np.int64)
    target, source, weight = connectivity.synapses()
    expected[target, source] = weight
    assert np.array_equal(matrix, expected)


def _call(text: str, arrays: dict[str, np.ndarray]) -> list[object]:
    """Name and arguments of a call in emitted source: arrays by key, and literals."""
    call = ast.parse(text, mode="eval").body
    assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    found: list[object] = [call.func.id]
    for argument in call.args:
        if isinstance(argument, ast.Subscript):
            found.append(arrays[ast.literal_eval(argument.slice)])
        else:
            found.append(ast.literal_eval(argument))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_names_never_become_code(seed: int) -> None:
    network = random_network(seed)
    plain, hostile = emit_program(network), emit_program(renamed(network, HOSTILE))
    assert plain.keys() == hostile.keys()
    for member in plain:
        assert (plain[member] == hostile[member]) == (member != "lava/names.json"), member
    names = json.loads(hostile["lava/names.json"])
    assert names["populations"][0]["name"] == f"{HOSTILE[0]}0"


@pytest.mark.parametrize("kind", KINDS)
def test_equal_networks_give_equal_bytes(kind: str) -> None:
    assert emit_program(random_network(3, kind=kind)) == emit_program(random_network(3, kind=kind))


def test_arrays_are_plain_and_dated() -> None:
    members = emit_program(random_network(3, kind="graded"))
    with zipfile.ZipFile(io.BytesIO(members["lava/arrays.npz"])) as archive:
        infos = archive.infolist()
    assert infos and all(i.date_time == (1980, 1, 1, 0, 0, 0) and i.compress_type == 0 for i in infos)
    with np.load(io.BytesIO(members["lava/arrays.npz"]), allow_pickle=False) as arrays:
        assert all(arrays[key].dtype.kind == "i" for key in arrays.files)


def test_program_stands_alone() -> None:
    for seed in range(12):
        members = emit_program(random_network(seed))
        for member, content in members.items():
            if member.endswith(".py"):
                tree = ast.parse(content)
                imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
                imported |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
                roots = {str(name).split(".")[0] for name in imported}
                own = {"nmc_neurons"} if "lava/nmc_neurons/process.py" in members else set()
                assert roots <= {"argparse", "os", "sys", "pathlib", "numpy", "scipy", "lava"} | own


@pytest.mark.parametrize("kind", ["reset-zero", "graded"])
def test_stock_networks_bring_no_own_process(kind: str) -> None:
    for seed in range(8):
        network = random_network(seed, kind=kind)
        members = emit_program(network)
        assert microcode(network) == ()
        assert not any("nmc_neurons" in member for member in members)
        assert b"nmc_neurons" not in members[PROGRAM].replace(b"for nmc_neurons", b"")


def test_own_processes_are_named() -> None:
    network = random_network(0, kind="rate")
    assert any(isinstance(p.neuron, LIF) and p.neuron.reset is Reset.SUBTRACT for p in network.populations)
    assert microcode(network) == ("LIF with subtractive reset: needs neuron microcode on hardware",)
    members = emit_program(network)
    assert b"needs neuron microcode" in members["lava/README.md"]
    assert {"__init__.py", "process.py", "models.py"} == {Path(m).name for m in members if "nmc_neurons" in m}
    ideal = next(n for n in map(random_network, range(60)) if any(isinstance(p.neuron, IF) for p in n.populations))
    assert any("ideal integrate-and-fire" in line for line in microcode(ideal))


def _one(neuron: LIF | IF | SigmaDelta, bias: int | None = None) -> Network:
    """A population of two neurons between a source and a read-out; its spikes may meet a bias."""
    origin, zero = Origin("n", "Gemm", "y"), np.zeros((), dtype=np.int64)
    populations = (
        Population("in", (2,), Source(), origin),
        Population("middle", (2,), neuron, origin, 1),
        Population("out", (2,), Integrator(zero, zero, zero), origin, 2),
    )
    weights = Dense(2 * np.eye(2, dtype=np.int64), (2,), (2,))
    given = None if bias is None else np.array(bias)
    projections = (
        Projection("first", "in", "middle", weights, origin),
        Projection("second", "middle", "out", weights, origin, 1, np.array(1), given),
    )
    spec, outputs = InputSpec("in", (2,), 1.0, 0, 255), (OutputSpec("out", np.ones(()), (2,)),)
    return Network("one", populations, projections, (spec,), outputs, 4, {})


BINARY = Binary()


def _lif(fire: Fire = BINARY, reset: Reset = Reset.ZERO, refractory: int = 0, threshold: object = 5) -> LIF:
    zero = np.zeros((), dtype=np.int64)
    return LIF(np.array(threshold), zero, zero, zero, reset=reset, fire=fire, refractory=refractory)


FREE, GUARDED = Signed(np.array(5), guarded=False), Signed(np.array(5))
ZERO = np.zeros((), dtype=np.int64)


@pytest.mark.parametrize(
    "neuron,process,words",
    [
        (_lif(), "LIFReset", ()),
        (_lif(FREE), "TernaryLIF", ()),
        (_lif(FREE, threshold=[5, 6]), "MicrocodeLIF", ("ternary LIF with several thresholds",)),
        (_lif(GUARDED), "MicrocodeLIF", ("only take back",)),
        (_lif(FREE, Reset.SUBTRACT), "MicrocodeLIF", ("subtractive reset", "signed spikes: need")),
        (_lif(Burst(4)), "MicrocodeLIF", ("bursts",)),
        (_lif(refractory=3), "MicrocodeLIF", ("refractory time: Loihi 1 has it",)),
        (IF(np.array(5), ZERO, ZERO, fire=Burst(2)), "IntegrateAndFire", ("ideal integrate-and-fire", "bursts")),
        (SigmaDelta(np.array(5), np.array([1, 2]), ZERO), "SigmaDelta", ()),
        (SigmaDelta(np.array(5), ZERO, np.array(1)), "ShiftedSigmaDelta", ("a shift behind its sum",)),
        (SigmaDelta(np.array([5, 6]), ZERO, ZERO), "ShiftedSigmaDelta", ("several thresholds",)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_stock_processes_where_lava_has_them(
    neuron: LIF | IF | SigmaDelta, process: str, words: tuple[str, ...]
) -> None:
    network = _one(neuron)
    members = emit_program(network)
    assert process_name(network, network.populations[1]) == process
    found = microcode(network)
    assert len(found) == len(words) and all(word in line for word, line in zip(words, found, strict=True))
    assert ("lava/nmc_neurons/process.py" in members) == bool(words)
    assert all(line in members["lava/README.md"].decode() for line in found)


def test_constant_neurons_make_a_threshold_of_their_own() -> None:
    """Lava's TernaryLIF and SigmaDelta hold one threshold: with constant neurons they are no choice."""
    for neuron in (_lif(FREE), SigmaDelta(np.array(5), ZERO, ZERO)):
        network = _one(neuron, bias=3)
        assert process_name(network, network.populations[1]) in ("MicrocodeLIF", "ShiftedSigmaDelta")
        assert microcode(network)


@pytest.mark.parametrize(
    "neuron,bits",
    [(_lif(), 1), (_lif(FREE), 2), (_lif(Burst(3)), 2), (_lif(Burst(4)), 3), (SigmaDelta(ZERO + 1, ZERO, ZERO), 24)],
    ids=["binary", "signed", "burst of 3", "burst of 4", "sigma-delta"],
)
def test_width_of_messages(neuron: LIF | SigmaDelta, bits: int) -> None:
    program = emit_program(_one(neuron))[PROGRAM].decode()
    assert f"connect(net[1], net[2], weights, delay=1, bits={bits}, exponent=-1)" in program


def test_loops_are_gated_and_samples_apart() -> None:
    origin = Origin("n", "Gemm", "y")
    network = _one(_lif())
    loop = Projection("loop", "middle", "middle", Skip(np.array([2, 2]), (2,)), origin, 3)
    program = emit_program(replace(network, projections=(*network.projections, loop)))[PROGRAM].decode()
    assert "GAP = 3\n" in program
    assert program.count("= gate(") == 1 and "connect(gate_1, net[1], weights, delay=3," in program
    assert "GAP = 0\n" in emit_program(network)[PROGRAM].decode()
    biased = replace(loop, bias=np.array(4))
    assert _slugs(replace(network, projections=(*network.projections, biased))) == {"lava-projection-bias"}


def test_parameters_beyond_lava_are_refused() -> None:
    above = 1 << 31
    for neuron in (
        _lif(Signed(np.array(1 << 17))),
        _lif(Burst(above)),
        _lif(refractory=above),
        SigmaDelta(ZERO + 1, np.array(above), ZERO),
        SigmaDelta(ZERO + 1, ZERO, np.array(32)),
    ):
        assert _slugs(_one(neuron)) == {"lava-parameter"}


def test_larger_messages_reach_the_read_out_threshold_earlier() -> None:
    def proven(fire: Fire, timesteps: int) -> bool:
        network = replace(_one(_lif(fire)), timesteps=timesteps)
        return never_fires(network, network.by_name["out"])

    # 64 * (message + 1) in each step, below 131071 << 6.
    assert proven(Binary(), 65_000) and proven(FREE, 65_000)
    assert not proven(Burst(3), 65_000) and proven(Burst(3), 32_000)
    deltas = _one(SigmaDelta(ZERO + 1, ZERO, ZERO))
    assert not never_fires(deltas, deltas.by_name["out"])


def test_read_out_threshold_is_the_registers_where_proven() -> None:
    network, _ = network_of(())
    output = network.by_name["output"]
    assert never_fires(network, output)
    assert b"vth=131071" in emit_program(network)[PROGRAM]
    longer = replace(network, timesteps=30_000)
    assert not never_fires(longer, output)
    assert b"vth=131072" in emit_program(longer)[PROGRAM]


def _slugs(network: Network) -> set[str]:
    with pytest.raises(NmcError) as caught:
        emit_program(network)
    assert caught.value.exit_code is ExitCode.DOES_NOT_FIT
    assert all(d.message for d in caught.value.diagnostics)
    return {d.slug for d in caught.value.diagnostics}


def _with(network: Network, **changes: object) -> Network:
    """The network with its last projection changed."""
    return replace(network, projections=(*network.projections[:-1], replace(network.projections[-1], **changes)))  # type: ignore[arg-type]


def _with_neuron(network: Network, neuron: object) -> Network:
    populations = (*network.populations[:-1], replace(network.populations[-1], neuron=neuron))  # type: ignore[arg-type]
    return replace(network, populations=populations)


def test_refusals_name_the_reason() -> None:
    network, _ = network_of(())
    last = network.projections[-1].connectivity
    zero = np.zeros((), dtype=np.int64)
    assert _slugs(_with(network, connectivity=last.with_weight(np.array([[1, -3]])))) == {"lava-weights"}
    assert _slugs(_with(network, connectivity=last.with_weight(np.array([[256, 2]])))) == {"lava-weights"}
    assert _slugs(_with(network, connectivity=last.with_weight(np.array([[0.5, 2.0]])))) == {"lava-not-integer"}
    assert _slugs(_with(network, delay=2)) == {"lava-window"}
    far = replace(network, populations=(network.populations[0], replace(network.populations[1], start=65)))
    assert _slugs(_with(far, delay=65)) == {"lava-delay"}
    wide = _with_neuron(network, Integrator(np.array(5000), zero, zero))
    assert _slugs(wide) == {"lava-parameter"}
    assert _slugs(_with(network, shift=np.array(1), bias=np.array(10**6))) == {"lava-projection-bias"}
    message = replace(network, inputs=(replace(network.input, mode="message"),))
    assert _slugs(message) == {"lava-input"}
    both = _with(wide, delay=2)
    assert _slugs(both) == {"lava-parameter", "lava-window"}


def test_graded_read_out_needs_no_potential() -> None:
    network = random_network(1, kind="graded")
    assert isinstance(network.by_name[network.output.population].neuron, Graded)
    assert b"POTENTIALS = ()" in emit_program(network)[PROGRAM]
