"""Documents: round trips of every class, and one clear error for every kind of damage."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest

from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.neurons import LIF, Graded, GradedReLU, Reset
from nmc.ir.npy import npy_array, npy_bytes
from nmc.ir.serial import (
    from_document,
    mapping_from_document,
    mapping_to_document,
    to_document,
)
from nmc.testing.random_networks import KINDS, random_network
from tests.programs import GRID, graph_of_everything, ideal_network, tiny_network, tiny_routed


def assert_same(a: Any, b: Any, path: str = "") -> None:
    """Equal values of equal types; arrays in value, shape and kind, NumPy scalars as arrays."""
    a, b = (np.asarray(value) if isinstance(value, np.generic) else value for value in (a, b))
    assert type(a) is type(b), path
    if isinstance(a, np.ndarray):
        assert a.dtype.kind == b.dtype.kind and a.shape == b.shape and np.array_equal(a, b), path
    elif is_dataclass(a):
        for field in fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name), f"{path}.{field.name}")
    elif isinstance(a, tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}[{i}]")
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}[{key}]")
    else:
        assert a == b, path


def through_bytes(program: Any) -> Any:
    """The program after JSON text and .npy bytes."""
    document, tensors = to_document(program)
    stored = {name: npy_bytes(array) for name, array in tensors.items()}
    read = {name: npy_array(content) for name, content in stored.items()}
    return from_document(json.loads(json.dumps(document, sort_keys=True, allow_nan=False)), read)


def test_graph_with_every_operation_survives() -> None:
    graph = graph_of_everything()
    assert_same(through_bytes(graph), graph)


@pytest.mark.parametrize("make", [tiny_network, ideal_network])
def test_handmade_networks_survive(make: Any) -> None:
    assert_same(through_bytes(make()), make())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_random_networks_survive(kind: str, seed: int) -> None:
    network = random_network(seed, kind=kind)
    assert_same(through_bytes(network), network)


@pytest.mark.parametrize("make", [graph_of_everything, tiny_network])
def test_documents_that_name_one_output_are_still_read(make: Any) -> None:
    document, tensors = to_document(make())
    assert "output" not in document and len(document["outputs"]) == 1
    document["output"] = document.pop("outputs")[0]
    if isinstance(document["output"], dict):
        del document["output"]["name"]
    document.pop("output_names", None)
    assert_same(from_document(document, tensors), make())
    with pytest.raises(NmcError, match="has no field 'output'"):
        from_document(to_document(make())[0] | {"output": document["output"]}, tensors)


def test_every_neuron_field_survives() -> None:
    network = tiny_network()
    odd = LIF(np.array(7), np.array(-3), np.array(2), np.array(5), du=100, dv=17, reset=Reset.ZERO)
    populations = (network.populations[0], replace(network.populations[1], neuron=odd, on_host=True))
    populations += (
        replace(network.populations[2], neuron=GradedReLU()),
        replace(network.populations[3], neuron=Graded()),
    )
    spec = replace(network.input, perm=(2, 0, 1), split_sign=True, mode="bias", bias_exp=3)
    changed = replace(
        network, populations=populations, inputs=(spec,), outputs=(replace(network.output, head="softmax", name="y"),)
    )
    assert_same(through_bytes(changed), changed)


def test_equal_programs_give_equal_documents_and_share_tensors() -> None:
    first, second = to_document(tiny_network()), to_document(tiny_network())
    assert first[0] == second[0] and first[1].keys() == second[1].keys()
    zeros = [q for q in first[0]["projections"] if q["shift"] == first[0]["projections"][1]["shift"]]
    assert len(zeros) == 3


def test_small_integers_are_stored_in_a_byte_and_read_as_int64() -> None:
    document, tensors = to_document(tiny_network())
    name = document["projections"][0]["connectivity"]["weight"]["array"]
    assert tensors[name].dtype == np.int8
    network = from_document(document, tensors)
    assert network.projections[0].connectivity.weight.dtype == np.int64  # type: ignore[union-attr]


@pytest.mark.parametrize("bound,dtype", [(127, "int8"), (128, "int16"), (32768, "int32"), (1 << 31, "int64")])
def test_narrowing_keeps_the_largest_value(bound: int, dtype: str) -> None:
    network = tiny_network()
    shifted = replace(network.projections[0], shift=np.array([bound, -bound]))
    document, tensors = to_document(replace(network, projections=(shifted, *network.projections[1:])))
    stored = tensors[document["projections"][0]["shift"]["array"]]
    assert stored.dtype == dtype and stored.tolist() == [bound, -bound]


def damage(document: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split("/")
    node: Any = document
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node[key]
    if value is KeyError:
        del node[last]
    elif isinstance(node, list):
        node[int(last)] = value
    else:
        node[last] = value


@pytest.mark.parametrize(
    "path,value,words",
    [
        ("type", "Partitioned", "Partitioned"),
        ("timesteps", "8", "timesteps"),
        ("timesteps", True, "an integer"),
        ("timesteps", 1 << 80, "64 bits"),
        ("extra", 1, "no field 'extra'"),
        ("timesteps", KeyError, "lacks the field 'timesteps'"),
        ("populations", {"type": "Population"}, "a list"),
        ("populations/1/neuron/type", "os.system", "os.system"),
        ("populations/1/neuron/type", "Dense", "type LIF or IF"),
        ("populations/1/neuron/reset", "both", "subtract, zero"),
        ("populations/1/neuron/threshold", {"array": "tensors/none.npy"}, "a tensor of the file"),
        ("populations/1/neuron/threshold", [1, 2], "array"),
        ("projections/0/connectivity", None, "Conv2d"),
        ("projections/0/connectivity/stride", [1, 2, 3], "a list of 2"),
        ("projections/0/connectivity/stride", [1, 2.5], "an integer"),
        ("input/scale", float("nan"), "finite"),
        ("input/scale", 10**400, "64 bits"),
        ("scales", [1], "an object"),
        ("name", 5, "text"),
        ("input/split_sign", 0, "true or false"),
    ],
)
def test_damage_is_one_clear_error(path: str, value: Any, words: str) -> None:
    document, tensors = to_document(tiny_network())
    damage(document, path, value)
    with pytest.raises(NmcError) as caught:
        from_document(document, tensors)
    assert caught.value.exit_code is ExitCode.MODEL
    assert {d.slug for d in caught.value.diagnostics} == {"document-invalid"}
    assert words in str(caught.value)


def test_all_damage_is_reported_at_once() -> None:
    document, tensors = to_document(graph_of_everything())
    damage(document, "layers/0/shape", "wide")
    damage(document, "layers/3/origin", None)
    damage(document, "layers/5/op/typo", 1)
    with pytest.raises(NmcError) as caught:
        from_document(document, tensors)
    assert len(caught.value.diagnostics) == 3


@pytest.mark.parametrize("document", [None, 3, [], {}, {"type": "Layer"}, {"type": ["Network"]}])
def test_other_trees_are_refused(document: Any) -> None:
    with pytest.raises(NmcError, match="LayerGraph or Network"):
        from_document(document, {})


def test_float_indices_are_refused() -> None:
    document, tensors = to_document(tiny_network())
    name = document["projections"][1]["connectivity"]["indices"]["array"]
    tensors[name] = tensors[name].astype(np.float64)
    with pytest.raises(NmcError, match="indices: expected integers"):
        from_document(document, tensors)


def test_objects_have_no_document_form() -> None:
    network = tiny_network()
    with pytest.raises(TypeError, match="object"):
        to_document(replace(network, scales={"a": np.array([object()])}))


def test_mapping_survives_and_matches_the_published_schema() -> None:
    routed = tiny_routed()
    document = json.loads(json.dumps(mapping_to_document(routed, GRID)))
    assert list(document) == ["format", "grid", "cores", "routes", "rates"]
    assert document["grid"] == {"tiles_x": 2, "tiles_y": 2, "cores_per_tile": 2, "chips": 1, "host_port": [0, 0]}
    assert list(document["cores"][1]) == ["id", "chip", "x", "y", "core", "slices", "axons"]
    assert document["cores"][1]["slices"] == [{"population": "a", "ranges": [[0, 2, 1], [0, 2, 1], [0, 4, 1]]}]
    assert document["cores"][1]["axons"][0] == {
        "projection": "in>a",
        "slice": 0,
        "region": [[[0, 1, 1], [0, 4, 1], [0, 4, 1]]],
        "delay": 1,
    }
    assert document["routes"][2]["source"] == {"core": 0, "slice": 0}
    assert document["routes"][2]["links"] == [[0, 0], [1, 0], [1, 1]]
    read, grid = mapping_from_document(document, routed.network)
    assert_same(read, routed)
    assert grid["host_port"] == (0, 0)


@pytest.mark.parametrize(
    "path,value,words",
    [
        ("cores", 3, "a list"),
        ("cores/0", 3, "an object"),
        ("cores/1/id", None, "an integer"),
        ("cores/1/colour", "red", "unknown field 'colour'"),
        ("cores/1/axons/0/delay", KeyError, "'delay' is missing"),
        ("cores/1/axons/0/region", [[[0, 1]]], "a list of 3"),
        ("cores/1/slices/0/population", "zebra", "no population 'zebra'"),
        ("routes/0/source", 4, "an object"),
        ("routes/0/links", [[0, 0, 0]], "a list of 2"),
        ("grid", KeyError, "'grid' is missing"),
        ("grid/tiles_x", "2", "an integer"),
        ("rates/a", "fast", "a number"),
        ("format", 2, "reads up to 1"),
    ],
)
def test_damaged_mappings_are_refused(path: str, value: Any, words: str) -> None:
    routed = tiny_routed()
    document = json.loads(json.dumps(mapping_to_document(routed, GRID)))
    damage(document, path, value)
    with pytest.raises(NmcError, match=words) as caught:
        mapping_from_document(document, routed.network)
    assert caught.value.exit_code is ExitCode.MODEL


@pytest.mark.parametrize("array", [np.arange(6).reshape(2, 3), np.array(2.5), np.zeros((0, 3)), np.array([True])])
def test_npy_survives_and_numpy_reads_it(array: Any, tmp_path: Any) -> None:
    assert_same(npy_array(npy_bytes(array)), array)
    (tmp_path / "a.npy").write_bytes(npy_bytes(np.array(array, array.dtype.newbyteorder(">"), order="F")))
    assert np.array_equal(np.load(tmp_path / "a.npy", allow_pickle=False), array)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY\x01\x00",
        npy_bytes(np.arange(4))[:-1],
        npy_bytes(np.arange(4)) + b"\0",
        npy_bytes(np.arange(4)).replace(b"(4,)", b"(9999999999999,)"),
        npy_bytes(np.arange(4)).replace(b"<i8", b"|O8"),
        npy_bytes(np.arange(4)).replace(b"(4,)", b"(-4,)"),
    ],
)
def test_broken_npy_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError):
        npy_array(content)
