"""Data specs: what they read, and one clear sentence for what they cannot."""

from __future__ import annotations

import io
import os
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.runtime.data import from_arrays, load_data
from nmc.runtime.preprocessing import Preprocessing

PLAIN = Preprocessing()
SHAPE = (1, 4, 3)


@pytest.fixture
def samples() -> Any:
    return np.random.default_rng(0).integers(0, 256, (10, *SHAPE)).astype(np.uint8)


def refused(spec: Any, shape: tuple[int, ...] = SHAPE, code: ExitCode = ExitCode.USAGE, **options: Any) -> NmcError:
    with pytest.raises(NmcError) as caught:
        load_data(str(spec), shape, options.pop("preprocess", PLAIN), **options)
    assert caught.value.exit_code is code
    return caught.value


def slug(error: NmcError) -> str:
    return error.diagnostics[0].slug


def test_npz_with_labels(tmp_path: Path, samples: Any) -> None:
    np.savez_compressed(tmp_path / "d.npz", x=samples, y=np.arange(10, dtype=np.uint8), other=np.array("text"))
    data = load_data(str(tmp_path / "d.npz"), SHAPE, PLAIN)
    assert data.kind == "npz" and data.x.dtype == np.float32 and data.y is not None and data.y.dtype == np.int64
    assert np.array_equal(data.x, samples) and data.y.tolist() == list(range(10)) and len(data) == 10


def test_first_n(tmp_path: Path, samples: Any) -> None:
    np.savez(tmp_path / "d.npz", x=samples, y=np.arange(10.0)[:, None])
    data = load_data(f"{tmp_path}/d.npz:4", SHAPE, PLAIN)
    assert np.array_equal(data.x, samples[:4]) and data.y is not None and data.y.tolist() == [0, 1, 2, 3]
    assert len(load_data(f"{tmp_path}/d.npz:99", SHAPE, PLAIN)) == 10
    (tmp_path / "d.npz").rename(tmp_path / "d:4")
    assert len(load_data(f"{tmp_path}/d:4", SHAPE, PLAIN)) == 10
    assert len(load_data(f"{tmp_path}/d:4:4", SHAPE, PLAIN)) == 4


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<u2", "?"])
def test_npy_of_any_number_and_order(tmp_path: Path, samples: Any, order: Any, dtype: str) -> None:
    stored = np.asarray(samples > 99 if dtype == "?" else samples, dtype=dtype, order=order)
    np.save(tmp_path / "x.npy", stored)
    for limit, count in (("", 10), (":3", 3)):
        data = load_data(f"{tmp_path}/x.npy{limit}", SHAPE, PLAIN)
        assert data.kind == "npy" and data.y is None
        assert np.array_equal(data.x, stored[:count].astype(np.float32))


def test_hash_depends_on_values_and_not_on_the_file(tmp_path: Path, samples: Any) -> None:
    np.savez(tmp_path / "a.npz", x=samples, y=np.zeros(10, int))
    np.savez_compressed(tmp_path / "b.npz", y=np.ones(10, int), x=np.asfortranarray(samples))
    np.save(tmp_path / "c.npy", samples + 1)
    a, b, c = (load_data(f"{tmp_path}/{n}", SHAPE, PLAIN).hash for n in ("a.npz", "b.npz", "c.npy"))
    assert a == b != c
    assert load_data(f"{tmp_path}/a.npz", SHAPE, Preprocessing(scale=2.0)).hash == a


def test_random_is_seeded_and_warns() -> None:
    first = load_data("random:8", SHAPE, PLAIN, seed=3, value_ranges=((-1.0, 2.0),))
    again = load_data("random:8", SHAPE, PLAIN, seed=3, value_ranges=((-1.0, 2.0),))
    other = load_data("random:8", SHAPE, PLAIN, seed=4, value_ranges=((-1.0, 2.0),))
    assert np.array_equal(first.x, again.x) and not np.array_equal(first.x, other.x)
    assert first.x.shape == (8, *SHAPE) and first.x.min() >= -1 and 1 < first.x.max() < 2
    assert first.warnings[0].severity == "warning" and first.warnings[0].slug == "data-random"
    assert len(load_data("random", SHAPE, PLAIN)) == 64
    assert slug(refused("random", need_labels=True)) == "data-labels-missing"
    assert slug(refused("random:999999999999")) == "data-too-large"


def test_shape_says_expected_and_found(tmp_path: Path, samples: Any) -> None:
    def save(x: Any) -> Path:
        np.save(tmp_path / "x.npy", x)
        return tmp_path / "x.npy"

    error = refused(save(samples[:, :, :2]))
    assert slug(error) == "data-shape" and "(10, 1, 2, 3)" in str(error) and "(N, 1, 4, 3)" in str(error)
    assert "x[None]" in refused(save(samples[0])).diagnostics[0].help
    assert "layout=NHWC" in refused(save(np.moveaxis(samples, 1, -1))).diagnostics[0].help
    assert "x.reshape(-1, 1, 4, 3)" in refused(save(samples[:, 0])).diagnostics[0].help
    assert slug(refused(save(np.float32(3)))) == "data-shape"
    assert slug(refused(save(samples[:0]))) == "data-empty"
    turned = Preprocessing(layout="NHWC")
    assert "(N, 4, 3, 1)" in str(refused(save(samples), preprocess=turned))
    back = load_data(str(save(np.moveaxis(samples, 1, -1))), SHAPE, turned)
    assert np.array_equal(back.x, samples)


@pytest.mark.parametrize(
    "arrays,want,words",
    [
        ({"a": np.zeros(3), "b": np.zeros(3)}, "data-key", "'a', 'b'"),
        ({"x": np.full((2, *SHAPE), None)}, "data-corrupt", "dtype object"),
        ({"x": np.full((2, *SHAPE), "a")}, "data-corrupt", "not numbers"),
        ({"x": np.zeros((2, *SHAPE), complex)}, "data-corrupt", "complex"),
        ({"x": np.zeros((2, *SHAPE)), "y": np.zeros(3)}, "data-labels", "2 samples, y has 3"),
        ({"x": np.zeros((2, *SHAPE)), "y_aux": np.zeros((3, 4))}, "data-labels", "2 samples, y_aux has 3"),
        ({"x": np.zeros((2, *SHAPE)), "y": np.zeros(())}, "data-labels", "y has one number"),
        ({"x": np.zeros((2, *SHAPE)), "y": np.array([np.nan, 1])}, "data-labels", "not finite"),
        ({"x": np.array([[[[np.nan] * 3] * 4]])}, "data-not-finite", "12 values"),
        ({"x": np.full((1, *SHAPE), 1e300)}, "data-not-finite", "12 values"),
    ],
)
def test_bad_contents(tmp_path: Path, arrays: Any, want: str, words: str) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    error = refused(tmp_path / "d.npz")
    assert slug(error) == want and words in str(error)


def test_labels_that_are_values_and_labels_by_output(tmp_path: Path, samples: Any) -> None:
    boxes = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=samples, y=np.arange(10) + 0.5, y_boxes=boxes, y_kind=np.arange(10))
    data = load_data(f"{tmp_path}/d.npz:6", SHAPE, PLAIN)
    assert data.y is not None and data.y.dtype == np.float64 and data.y.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
    assert np.array_equal(data.named["boxes"], boxes[:6]) and data.named["kind"].dtype == np.int64
    first = data.head(2)
    assert (len(first), len(first.named["kind"]), first.labelled) == (2, 2, True)
    assert not replace(data, y=None, named={}).labelled
    made = from_arrays(samples, {"boxes": boxes}, SHAPE, PLAIN)
    assert made.y is None and made.labelled and np.array_equal(made.named["boxes"], boxes)


def test_labels_must_be_there_when_needed(tmp_path: Path, samples: Any) -> None:
    np.savez(tmp_path / "d.npz", x=samples)
    assert load_data(f"{tmp_path}/d.npz", SHAPE, PLAIN).y is None
    assert slug(refused(tmp_path / "d.npz", need_labels=True)) == "data-labels-missing"


def header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text + b"\n"


@pytest.mark.parametrize(
    "content,want",
    [
        (b"", "data-format"),
        (b"x,y\n1,2\n", "data-format"),
        (b"\x93NUMPY", "data-corrupt"),
        (b"\x93NUMPY\x09\x00", "data-corrupt"),
        (header("(4, 1, 4, 3)"), "data-corrupt"),
        (header("(99999999999999, 1, 4, 3)"), "data-corrupt"),
        (header("(-1, 1, 4, 3)"), "data-corrupt"),
        (header("open('x')"), "data-corrupt"),
        (b"PK\x03\x04 torn", "data-corrupt"),
    ],
)
def test_broken_files(tmp_path: Path, content: bytes, want: str) -> None:
    (tmp_path / "d").write_bytes(content)
    assert slug(refused(tmp_path / "d")) == want


def test_damaged_compressed_member(tmp_path: Path, samples: Any) -> None:
    np.savez_compressed(tmp_path / "d.npz", x=samples)
    content = bytearray((tmp_path / "d.npz").read_bytes())
    content[150] ^= 0xFF
    (tmp_path / "d.npz").write_bytes(bytes(content))
    assert slug(refused(tmp_path / "d.npz")) == "data-corrupt"


def test_a_lying_header_in_a_zip_takes_no_memory(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", header("(60000000, 1, 4, 3)") + b"\0" * 480)
    assert "ends" in str(refused(tmp_path / "d.npz"))


@pytest.mark.parametrize("spec", ["missing.npz", "missing.npz:5", "a\0b", "/dev/null", ""])
def test_unreadable_paths(spec: str) -> None:
    error = refused(spec)
    assert slug(error) in ("path-not-readable", "data-empty")


def test_pipes_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert slug(refused(tmp_path / "pipe")) == "path-not-readable"


def test_zero_samples_are_refused(tmp_path: Path) -> None:
    assert slug(refused(f"{tmp_path}/d.npz:0")) == "data-spec"


# --- images


def save_image(path: Path, pixels: Any) -> None:
    image = pytest.importorskip("PIL.Image")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    for name, count in (("dog", 3), ("cat", 2), (".hidden", 1)):
        for number in range(count):
            save_image(tmp_path / "set" / name / f"{number}.png", rng.integers(0, 256, (4, 5, 3)).astype(np.uint8))
    (tmp_path / "set" / "dog" / "notes.txt").write_text("no image")
    (tmp_path / "set" / "readme.md").write_text("no class")
    return tmp_path / "set"


def test_images_by_class_folder_take_turns(folder: Path) -> None:
    data = load_data(str(folder), (3, 4, 5), Preprocessing(scale=1 / 255, mean=(0.5,), layout="NHWC"))
    assert data.classes == ("cat", "dog") and data.kind == "images"
    assert data.y is not None and data.y.tolist() == [0, 1, 0, 1, 1]
    assert data.x.shape == (5, 3, 4, 5) and -0.5 <= data.x.min() < -0.4 and 0.4 < data.x.max() <= 0.5
    image = pytest.importorskip("PIL.Image")
    first = np.asarray(image.open(folder / "cat" / "0.png"), dtype=np.float64) / 255 - 0.5
    assert np.allclose(data.x[0], np.moveaxis(first, -1, 0), atol=1e-6)


def test_images_follow_the_network(folder: Path) -> None:
    assert load_data(f"{folder}:2", (4, 5, 3), PLAIN).x.shape == (2, 4, 5, 3)
    assert load_data(str(folder), (1, 4, 5), PLAIN).x.shape == (5, 1, 4, 5)
    assert load_data(str(folder), (4, 5), PLAIN).x.shape == (5, 4, 5)
    assert slug(refused(folder, (7, 4, 5))) == "data-shape"


def test_bad_images_are_all_named(folder: Path) -> None:
    save_image(folder / "cat" / "9.png", np.zeros((8, 8), np.uint8))
    (folder / "dog" / "8.jpg").write_bytes(b"no jpeg")
    error = refused(folder, (3, 4, 5))
    text = str(error)
    assert "9.png' is 8x8 pixels, the network takes 4x5" in text and "8.jpg" in text
    for number in range(9):
        (folder / "cat" / f"bad{number}.png").write_bytes(b"")
    assert len(refused(folder, (3, 4, 5)).diagnostics) == 6


def test_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    assert slug(refused(tmp_path, (3, 4, 5))) == "data-empty"


def test_without_pillow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    error = refused(folder, (3, 4, 5), ExitCode.MISSING)
    assert slug(error) == "pillow-missing" and "pip install" in error.diagnostics[0].help


# --- preprocessing


def test_preprocessing_round_trip_and_arithmetic() -> None:
    made = Preprocessing.parse(" scale=1/255, mean=0.1|0.2|0.3 ,std=0.5|1|2,layout=NHWC,")
    assert made == Preprocessing(1 / 255, (0.1, 0.2, 0.3), (0.5, 1.0, 2.0), "NHWC")
    assert Preprocessing.from_dict(made.to_dict()) == made
    x = np.random.default_rng(0).integers(0, 256, (300, 4, 5, 3)).astype(np.uint8)
    want = (x / 255 - np.array([0.1, 0.2, 0.3])) / np.array([0.5, 1, 2])
    got = made.apply(x)
    assert got.dtype == np.float32 and np.array_equal(got, np.moveaxis(want, -1, 1).astype(np.float32))
    assert made.raw_shape((3, 4, 5)) == (4, 5, 3)
    assert Preprocessing.parse("") == PLAIN == Preprocessing.from_dict({})


def test_channels_last_without_turning() -> None:
    made = Preprocessing(mean=(1.0, 2.0))
    assert np.array_equal(made.apply(np.zeros((1, 5, 5, 2)))[0, 0, 0], [-1, -2])
    assert np.array_equal(made.apply(np.zeros((1, 2, 5, 5)))[0, :, 0, 0], [-1, -2])
    assert np.array_equal(made.apply(np.zeros((3, 2))), [[-1, -2]] * 3)
    with pytest.raises(NmcError, match="2 numbers, the samples have 3 channels"):
        made.apply(np.zeros((1, 3, 5, 5)))


@pytest.mark.parametrize(
    "text,words",
    [
        ("scale", "not key=value"),
        ("sclae=2", "sclae"),
        ("scale=1/0", "no finite number"),
        ("scale=nan", "no finite number"),
        ("scale=1|2", "takes 1"),
        ("scale=0", "must not be 0"),
        ("std=1|0", "must not be 0"),
        ("mean=a|b", "'a'"),
        ("layout=CHWN", "CHWN"),
        ("scale=1,scale=2", "twice"),
    ],
)
def test_bad_preprocessing(text: str, words: str) -> None:
    with pytest.raises(NmcError) as caught:
        Preprocessing.parse(text)
    assert caught.value.exit_code is ExitCode.USAGE and words in str(caught.value)
    assert {d.slug for d in caught.value.diagnostics} == {"preprocess-invalid"}


def test_near_miss_is_suggested_and_all_is_reported() -> None:
    with pytest.raises(NmcError) as caught:
        Preprocessing.parse("sclae=2,std=0,layout=x")
    assert len(caught.value.diagnostics) == 3 and "'scale'" in caught.value.diagnostics[0].help


@pytest.mark.parametrize("tree", [{"zoom": 1}, {"mean": ["a"]}, {"scale": True}, {"std": [1e400]}, {"layout": 5}])
def test_damaged_manifest(tree: Any) -> None:
    with pytest.raises(NmcError) as caught:
        Preprocessing.from_dict(tree)
    assert caught.value.exit_code is ExitCode.MODEL


def test_streams_are_read_in_part_only(tmp_path: Path) -> None:
    """``:N`` of an uncompressed array reads N samples, whatever follows them."""
    content = header("(1000, 1, 4, 3)") + np.arange(24, dtype="<f4").tobytes()
    (tmp_path / "x.npy").write_bytes(io.BytesIO(content).getvalue())
    assert load_data(f"{tmp_path}/x.npy:2", SHAPE, PLAIN).x.shape == (2, *SHAPE)
    assert slug(refused(f"{tmp_path}/x.npy:3")) == "data-corrupt"
