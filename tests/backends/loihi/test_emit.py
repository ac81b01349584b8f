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
from nmc.backends.loihi.emit_neurons import microcode, never_fires
from nmc.backends.loihi.emit_synapses import matrix_text
from nmc.ir.connectivity import Connectivity, Conv2d, Dense, Pool, Skip, size, sparse_from_synapses
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.network import Network
from nmc.ir.neurons import IF, LIF, Graded, Integrator, Reset
from nmc.ir.origin import Origin
from nmc.testing.random_networks import random_network
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
        input=replace(network.input, population=new[network.input.population]),
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


@pytest.mark.parametrize("kind", ["rate", "graded", "lif-leak", "reset-zero", "any"])
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
    message = replace(network, input=replace(network.input, mode="message"))
    assert _slugs(message) == {"lava-input"}
    both = _with(wide, delay=2)
    assert _slugs(both) == {"lava-parameter", "lava-window"}


def test_graded_read_out_needs_no_potential() -> None:
    network = random_network(1, kind="graded")
    assert isinstance(network.by_name[network.output.population].neuron, Graded)
    assert b"POTENTIALS = ()" in emit_program(network)[PROGRAM]
