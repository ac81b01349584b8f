"""The artifact: equal bytes for equal content, whole files only, and no tampering unseen."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.hardware.target import Grid
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.printer import format_program
from nmc.runtime import container
from nmc.runtime.artifact import Artifact
from tests.programs import graph_of_everything, ideal_network, tiny_routed


def make_artifact(**changes: Any) -> Artifact:
    manifest = {"nmc": "0.1.0", "target": {"name": "small", "family": "test", "hash": "00"}, "seed": 0}
    payload = {"program.py": b"print()\n", "arrays/w.npy": b"\x00\x01"}
    grid = Grid(2, 2, 2, 1, 1, (0, 0))
    artifact = Artifact(
        manifest,
        tiny_routed(),
        graph_of_everything(),
        ideal_network(),
        b"onnx bytes",
        {"layers": [], "note": "ü"},
        payload,
        grid,
    )
    return replace(artifact, **changes)


def rezip(source: Path, target: Path, change: Callable[[dict[str, bytes]], None], **options: Any) -> None:
    """The container again, its members changed, its checksums right."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w", options.get("compression", zipfile.ZIP_STORED)) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def resign(members: dict[str, bytes]) -> None:
    """Give the manifest the hashes of the members as they are."""
    manifest = json.loads(members["manifest.json"])
    others = {name: content for name, content in members.items() if name != "manifest.json"}
    manifest["members"] = {name: hashlib.sha256(content).hexdigest() for name, content in others.items()}
    members["manifest.json"] = json.dumps(manifest).encode()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "net.nmc"
    make_artifact().save(path)
    return path


def load_error(path: Path) -> NmcError:
    with pytest.raises(NmcError) as caught:
        Artifact.load(path)
    return caught.value


def test_round_trip(saved: Path) -> None:
    read, made = Artifact.load(saved), make_artifact()
    assert format_program(read.routed) == format_program(made.routed)
    assert format_program(read.graph) == format_program(made.graph)
    assert format_program(read.spiking) == format_program(made.spiking)
    assert read.source_onnx == made.source_onnx and read.payload == made.payload and read.report == made.report
    assert read.grid == made.grid and read.network is read.routed.network
    assert read.manifest["seed"] == 0 and read.manifest["format"] == 2


def test_artifacts_of_format_1_are_still_read(saved: Path, tmp_path: Path) -> None:
    def former(members: dict[str, bytes]) -> None:
        for name in ("graph.json", "spiking.json", "network.json"):
            document = json.loads(members[name])
            document.pop("output_names", None)
            (document["output"],) = document.pop("outputs")
            if name != "graph.json":
                del document["output"]["name"]
            members[name] = json.dumps(document).encode()
        manifest = json.loads(members["manifest.json"])
        members["manifest.json"] = json.dumps(manifest | {"format": 1}).encode()
        resign(members)

    rezip(saved, tmp_path / "former.nmc", former)
    read, made = Artifact.load(tmp_path / "former.nmc"), Artifact.load(saved)
    assert read.manifest["format"] == 1 and made.manifest["format"] == 2
    assert read.graph.outputs == made.graph.outputs
    for ours, theirs in ((read.network, made.network), (read.spiking, made.spiking)):
        assert (ours.output.population, ours.output.head, ours.output.shape) == ("out", "", theirs.output.shape)
        assert np.array_equal(ours.output.scale, theirs.output.scale)
    read.save(tmp_path / "again.nmc")
    assert Artifact.load(tmp_path / "again.nmc").manifest["format"] == 2


def test_bytes_depend_on_content_only(saved: Path, tmp_path: Path) -> None:
    second = tmp_path / "elsewhere.bin"
    Artifact.load(saved).save(second)
    assert second.read_bytes() == saved.read_bytes()
    payload = dict(reversed(make_artifact().payload.items()))
    make_artifact(payload=payload).save(second)
    assert second.read_bytes() == saved.read_bytes()
    make_artifact(source_onnx=b"other").save(second)
    assert second.read_bytes() != saved.read_bytes()


def test_container_is_plain(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        infos = archive.infolist()
        names = [info.filename for info in infos]
        assert names == sorted(names)
        assert {"manifest.json", "source.onnx", "network.json", "payload/program.py"} <= set(names)
        for info in infos:
            assert info.compress_type == zipfile.ZIP_STORED and info.date_time == (1980, 1, 1, 0, 0, 0)
            assert info.extra == b"" and info.create_system == 3 and info.comment == b""
        manifest = json.loads(archive.read("manifest.json"))
        assert set(manifest["members"]) == set(names) - {"manifest.json"}
        for name, digest in manifest["members"].items():
            assert hashlib.sha256(archive.read(name)).hexdigest() == digest
        tensors = [name for name in names if name.startswith("tensors/")]
        for name in tensors:
            content = archive.read(name)
            assert name == f"tensors/{hashlib.sha256(content).hexdigest()[:16]}.npy"
            with archive.open(name) as stream:
                np.lib.format.read_array(stream, allow_pickle=False)
        assert len(tensors) > 10


def member_names() -> list[str]:
    return sorted(make_artifact().members())


@pytest.mark.parametrize("name", [n for n in member_names() if n != "manifest.json"])
def test_a_changed_member_is_named(saved: Path, tmp_path: Path, name: str) -> None:
    def change(members: dict[str, bytes]) -> None:
        content = bytearray(members[name])
        content[len(content) // 2] ^= 1
        members[name] = bytes(content)

    rezip(saved, tmp_path / "bad.nmc", change)
    error = load_error(tmp_path / "bad.nmc")
    assert error.diagnostics[0].slug == "artifact-corrupt" and error.exit_code is ExitCode.MODEL
    assert name in str(error)


@pytest.mark.parametrize("name", member_names())
def test_a_missing_member_is_named(saved: Path, tmp_path: Path, name: str) -> None:
    rezip(saved, tmp_path / "bad.nmc", lambda members: members.pop(name) and None)
    error = load_error(tmp_path / "bad.nmc")
    assert error.diagnostics[0].slug == "artifact-corrupt" and name in str(error)


def test_no_flipped_bit_goes_unseen_or_ends_in_a_traceback(saved: Path, tmp_path: Path) -> None:
    """Every byte of headers and a sample of the rest: refused, or what is read is the same."""
    whole = saved.read_bytes()
    want = Artifact.load(saved).members()
    rng = np.random.default_rng(0)
    places = sorted({*range(64), *range(len(whole) - 200, len(whole)), *rng.integers(0, len(whole), 150).tolist()})
    bad, refused = tmp_path / "bad.nmc", 0
    for place in places:
        content = bytearray(whole)
        content[place] ^= 1 << int(rng.integers(0, 8))
        bad.write_bytes(bytes(content))
        try:
            assert Artifact.load(bad).members() == want, place
        except NmcError as error:
            assert error.exit_code is ExitCode.MODEL, place
            refused += 1
    assert refused > len(places) // 2


def test_every_truncation_is_refused(saved: Path, tmp_path: Path) -> None:
    whole, bad = saved.read_bytes(), tmp_path / "bad.nmc"
    for length in [*range(0, len(whole), 977), len(whole) - 1]:
        bad.write_bytes(whole[:length])
        assert load_error(bad).diagnostics[0].slug == "artifact-corrupt"


def add(name: str, content: bytes) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        members[name] = content
        resign(members)

    return change


def edit(member: str, **fields: Any) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        members[member] = json.dumps(json.loads(members[member]) | fields).encode()
        resign(members)

    return change


def swap(members: dict[str, bytes]) -> None:
    members["network.json"], members["graph.json"] = members["graph.json"], members["network.json"]
    resign(members)


@pytest.mark.parametrize(
    "change,slug,words",
    [
        (lambda members: members.update(extra=b""), "artifact-corrupt", "does not list: 'extra'"),
        (add("graph.json", b"{"), "artifact-corrupt", "unreadable member 'graph.json'"),
        (add("graph.json", b"[" * 100_000), "artifact-corrupt", "unreadable member"),
        (add("graph.json", b'{"type": NaN}'), "artifact-corrupt", "NaN"),
        (add("graph.json", b"1" * 5000), "artifact-corrupt", "unreadable member"),
        (add("graph.json", b"\xff\xfe\xfa"), "artifact-corrupt", "unreadable member"),
        (add("report.json", b"[]"), "artifact-corrupt", "report.json"),
        (add("tensors/0000.npy", b"\x93NUMPY"), "artifact-corrupt", "tensors/0000.npy"),
        (add("tensors/0000.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': os}    "), "artifact-corrupt", "0000.npy"),
        (swap, "artifact-corrupt", "layer graph where"),
        (edit("network.json", timesteps="many"), "document-invalid", "timesteps"),
        (edit("network.json", timesteps=-4), "ir-invalid", "timesteps is -4"),
        (edit("mapping.json", routes=[{}]), "document-invalid", "missing"),
        (edit("mapping.json", cores=[]), "ir-invalid", "lie on no core"),
        (edit("mapping.json", format=7), "artifact-newer", "format 7"),
        (edit("manifest.json", format=4), "artifact-newer", "format 4"),
        (edit("manifest.json", format="1"), "artifact-corrupt", "without a format version"),
        (edit("manifest.json", format=True), "artifact-corrupt", "without a format version"),
        (lambda members: members.update({"manifest.json": b"[]"}), "artifact-corrupt", "format version"),
        (lambda members: members.update({"manifest.json": b'{"format": 1}'}), "artifact-corrupt", "without members"),
        (add("payload/../../evil", b""), "artifact-corrupt", "unsafe name"),
        (add("/etc/passwd", b""), "artifact-corrupt", "unsafe name"),
    ],
)
def test_well_signed_nonsense_is_refused(saved: Path, tmp_path: Path, change: Any, slug: str, words: str) -> None:
    rezip(saved, tmp_path / "bad.nmc", change)
    error = load_error(tmp_path / "bad.nmc")
    assert error.exit_code is ExitCode.MODEL
    assert {d.slug for d in error.diagnostics} == {slug} and words in str(error)


def test_impossible_grid_is_refused(saved: Path, tmp_path: Path) -> None:
    grid = {"tiles_x": 0, "tiles_y": 2, "cores_per_tile": 1, "chips": 1, "host_port": [0, 0]}
    rezip(saved, tmp_path / "bad.nmc", edit("mapping.json", grid=grid))
    assert "impossible grid" in str(load_error(tmp_path / "bad.nmc"))


def test_compressed_containers_are_refused(saved: Path, tmp_path: Path) -> None:
    rezip(saved, tmp_path / "bad.nmc", lambda members: None, compression=zipfile.ZIP_DEFLATED)
    assert "compressed" in str(load_error(tmp_path / "bad.nmc"))


def test_repeated_members_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("source.onnx", b"onnx bytes")
    assert "twice" in str(load_error(saved))


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    """A zip bomb without compression: many entries that share one megabyte."""
    path = tmp_path / "bomb.nmc"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"0" * 1_000_000)
        archive.filelist = [_copy(archive.filelist[0], f"a{i}") for i in range(5000)]
        archive.NameToInfo = {info.filename: info for info in archive.filelist}
    assert "claims more content" in str(load_error(path))


def _copy(info: zipfile.ZipInfo, name: str) -> zipfile.ZipInfo:
    twin = zipfile.ZipInfo(name)
    twin.CRC, twin.compress_size, twin.file_size = info.CRC, info.compress_size, info.file_size
    twin.header_offset = info.header_offset
    return twin


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x80\x04." * 99])
def test_other_files_are_no_artifacts(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.nmc").write_bytes(content)
    error = load_error(tmp_path / "x.nmc")
    assert error.diagnostics[0].slug == "artifact-corrupt" and error.exit_code is ExitCode.MODEL


def test_empty_zip_is_no_artifact(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.nmc", "w"):
        pass
    assert "no manifest.json" in str(load_error(tmp_path / "x.nmc"))


@pytest.mark.parametrize("name", ["missing.nmc", ".", "a\0b", "no/such/folder.nmc"])
def test_unreadable_paths_are_usage_errors(tmp_path: Path, name: str) -> None:
    error = load_error(tmp_path / name)
    assert error.exit_code is ExitCode.USAGE and error.diagnostics[0].slug == "path-not-readable"


@pytest.mark.parametrize("name", ["no/such/folder.nmc", ".", "a\0b", "x" * 300])
def test_unwritable_paths_are_usage_errors(tmp_path: Path, name: str) -> None:
    with pytest.raises(NmcError) as caught:
        make_artifact().save(tmp_path / name)
    assert caught.value.exit_code is ExitCode.USAGE and caught.value.diagnostics[0].slug == "path-not-writable"
    assert os.listdir(tmp_path) == []


def test_devices_are_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NmcError, match="not a regular file"):
        make_artifact().save(tmp_path / "pipe")
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize("step", ["writestr", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    path = tmp_path / "net.nmc"
    path.write_bytes(b"old")
    calls = 0

    def fail(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if step != "writestr" or calls == 5:
            raise error

    owner = zipfile.ZipFile if step == "writestr" else container.os
    monkeypatch.setattr(owner, step, fail)
    with pytest.raises(NmcError if isinstance(error, OSError) else type(error)):
        make_artifact().save(path)
    monkeypatch.undo()
    assert calls >= 1 and os.listdir(tmp_path) == ["net.nmc"] and path.read_bytes() == b"old"


def test_saving_follows_a_link_and_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.nmc").symlink_to(tmp_path / "real" / "net.nmc")
    make_artifact().save(tmp_path / "link.nmc")
    assert (tmp_path / "link.nmc").is_symlink() and os.listdir(tmp_path / "real") == ["net.nmc"]
    Artifact.load(tmp_path / "link.nmc")


def test_new_files_obey_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        make_artifact().save(tmp_path / "net.nmc")
    finally:
        os.umask(old)
    assert (tmp_path / "net.nmc").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["../evil", "/abs", "a//b", "a\\b", "", "c:x", "new\nline"])
def test_payload_paths_must_be_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a member"):
        make_artifact(payload={name: b""}).save(tmp_path / "net.nmc")
    assert os.listdir(tmp_path) == []


def test_without_grid_it_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="grid"):
        make_artifact(grid=None).save(tmp_path / "net.nmc")
