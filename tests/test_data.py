"""Data sets: hand-made IDX, .npy and .npz files, whole, damaged and hostile, and the real ones."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import re
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from idx_files import MNIST_NAMES, idx_bytes, write_mnist
from numpy.testing import assert_array_equal

from fastconv import data
from fastconv._idx import read_idx
from fastconv._npz import read_array, read_arrays

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all that Hypothesis draws in a test."""
    return tmp_path_factory.mktemp("scratch")


# --- IDX ---


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("code", IDX_TYPES)
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 1, 3, 2), (0, 4)])
def test_idx_of_every_type(tmp_path: Path, code: int, shape: tuple[int, ...], compress: bool) -> None:
    expected = np.arange(np.prod(shape)).reshape(shape).astype(IDX_TYPES[code]) - 1
    content = idx_bytes(code, shape, expected.astype(IDX_TYPES[code]).tobytes())
    path = tmp_path / "any-name"
    path.write_bytes(gzip.compress(content) if compress else content)
    received = read_idx(path)
    assert_array_equal(received, expected.astype(IDX_TYPES[code]))
    assert received.dtype == np.dtype(IDX_TYPES[code]).newbyteorder("=")
    assert received.dtype.isnative
    assert received.flags.writeable


WHOLE = idx_bytes(0x08, (2, 3), bytes(6))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "received .*, which begins with nothing"),
        (b"\0\0\x08", "begins 00 00 08"),
        (b"\x89PNG" + bytes(9), "expected an IDX file: .*begins 89 50 4e 47"),
        (b"\0\0\x0a\x01" + bytes(8), "type code .*0x08 uint8.*0x0e float64"),
        (b"\0\0\x08\x00", "1 to 32 dimensions"),
        (b"\0\0\x08\x21" + bytes(33 * 4), "1 to 32 dimensions"),
        (WHOLE[:9], "expected 2 dimensions of 4 bytes each .*received 5 bytes"),
        (WHOLE[:-1], r"expected 6 bytes of values for the shape \(2, 3\).*received 5"),
        (WHOLE + b"\0", r"expected 6 bytes of values for the shape \(2, 3\).*received more"),
        (idx_bytes(0x08, (0, 2**32 - 1, 2**32 - 1), b""), "a shape that an array can have"),
        (idx_bytes(0x0E, (2**32 - 1,) * 8, b""), "a shape that an array can have"),
    ],
)
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_idx_damaged(tmp_path: Path, content: bytes, message: str, compress: bool) -> None:
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(content) if compress else content)
    with pytest.raises(ValueError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_idx_header_alone_takes_no_memory(tmp_path: Path, compress: bool) -> None:
    content = idx_bytes(0x08, (2**32 - 1, 1024, 256), b"")  # asks for an exabyte
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(content) if compress else content)
    with pytest.raises(ValueError, match=r"received a file that can hold [0-9]+ at most"):
        read_idx(path)


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:-9], lambda raw: raw[:20], lambda raw: raw[:-8] + bytes(4) + raw[-4:]],
    ids=["trailer cut", "stream cut", "checksum wrong"],
)
def test_idx_gzip_damaged(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(damage(gzip.compress(idx_bytes(0x08, (300,), bytes(range(150)) * 2))))
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_idx(path)


@given(position=st.integers(0, 60), value=st.integers(0, 255), cut=st.integers(0, 60) | st.none())
def test_idx_mutated_raises_value_error_only(scratch: Path, position: int, value: int, cut: int | None) -> None:
    raw = bytearray(gzip.compress(idx_bytes(0x0B, (2, 5), bytes(range(20))), mtime=0))
    raw[position % len(raw)] = value
    path = scratch / "mutated"
    path.write_bytes(raw[:cut])
    with contextlib.suppress(ValueError):
        assert read_idx(path).nbytes < 2**20


def test_idx_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none")


# --- MNIST and its kin ---


@pytest.mark.parametrize("below", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_mnist_folder(tmp_path: Path, below: str, compress: bool) -> None:
    images, labels, test_images, test_labels = write_mnist(tmp_path / below, compress=compress)
    (x, y), (x_test, y_test) = data.load_mnist(tmp_path)
    assert x.dtype == np.float32
    assert y.dtype == np.int64
    assert_array_equal(x, images[:, None].astype(np.float32) / np.float32(255))
    assert_array_equal(y, labels)
    assert_array_equal(x_test[:, 0], test_images.astype(np.float32) / np.float32(255))
    assert_array_equal(y_test, test_labels)


def test_mnist_by_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "mnist")
    monkeypatch.setenv("FASTCONV_DATA", str(tmp_path))
    assert data.load_mnist()[0][0].shape == (6, 1, 28, 28)


def test_mnist_missing_says_where_it_looked_and_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTCONV_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"because FASTCONV_DATA is not set.*curl"):
        data.load_mnist()
    with pytest.raises(FileNotFoundError) as caught:
        data.load_mnist(tmp_path)
    for place in (tmp_path, tmp_path / "mnist", tmp_path / "MNIST/raw"):
        assert str(place) in str(caught.value)
    assert "--data-dir" in str(caught.value)


def test_mnist_incomplete_names_the_missing_file(tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist")
    (tmp_path / "mnist" / MNIST_NAMES[3]).unlink()
    with pytest.raises(FileNotFoundError, match=f"{MNIST_NAMES[3]}.*looked in {tmp_path}/mnist"):
        data.load_mnist(tmp_path)


def test_mnist_of_unequal_counts(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / MNIST_NAMES[1]).write_bytes(idx_bytes(0x08, (5,), bytes(5)))
    with pytest.raises(ValueError, match=r"expected train labels as integers of shape \(6,\)"):
        data.load_mnist(tmp_path)


def test_mnist_of_wrong_kind(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / MNIST_NAMES[2]).write_bytes(idx_bytes(0x0D, (3, 1, 1), bytes(12)))
    with pytest.raises(ValueError, match=r"expected t10k images as uint8 .*received float32"):
        data.load_mnist(tmp_path)


def test_real_mnist(data_folder: Path) -> None:
    if not (data_folder / "mnist").is_dir():
        pytest.skip("FASTCONV_DATA holds no mnist")
    digests = {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }
    for path in data_folder.glob("mnist/*"):
        array = read_idx(path)
        content = idx_bytes(0x08, array.shape, array.tobytes())
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        assert digest == digests.pop(path.name.removesuffix(".gz"))
    assert not digests
    (x, y), (x_test, y_test) = data.load_mnist(data_folder)
    assert (x.shape, y.shape) == ((60000, 1, 28, 28), (60000,))
    assert (x_test.shape, y_test.shape) == ((10000, 1, 28, 28), (10000,))
    assert (x.min(), x.max()) == (0, 1)
    assert_array_equal(np.bincount(y_test), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])


# --- digits ---


def test_digits() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    (x, y), (x_test, y_test) = data.load_digits()
    assert (x.shape, x_test.shape) == ((1437, 1, 8, 8), (360, 1, 8, 8))
    assert x.dtype == np.float32
    assert y.dtype == np.int64
    assert (x.min(), x.max()) == (0, 1)
    assert set(y) == set(y_test) == set(range(10))
    rows = {image.tobytes() for image in x}
    assert not any(image.tobytes() in rows for image in x_test)  # no image on both sides
    assert_array_equal(data.load_digits(seed=0)[0][0], x)
    assert not np.array_equal(data.load_digits(seed=1)[0][0], x)


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=re.escape('pip install "fastconv[digits]"')):
        data.load_digits()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 2.0])
def test_split_with_an_empty_side(tmp_path: Path, fraction: float) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((10, 4)), y=np.zeros(10, int))
    with pytest.raises(ValueError, match="expected test_fraction to leave images on both sides"):
        data.load_npz(tmp_path / "d.npz", test_fraction=fraction)


# --- .npz and .npy ---


def test_npz_with_four_arrays(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    x_train = np.full((4, 8, 8), 255, np.uint8)
    x_test = np.linspace(-1, 1, 2 * 3 * 5).reshape(2, 3, 5)
    np.savez_compressed(path, x_train=x_train, y_train=np.arange(4)[:, None], x_test=x_test, y_test=[1, 0])
    (x, y), (xt, yt) = data.load_npz(path)
    assert_array_equal(x, np.ones((4, 1, 8, 8), np.float32))
    assert_array_equal(xt, x_test[:, None].astype(np.float32))
    assert_array_equal(y, [0, 1, 2, 3])
    assert_array_equal(yt, [1, 0])
    assert {x.dtype, xt.dtype} == {np.dtype(np.float32)}
    assert {y.dtype, yt.dtype} == {np.dtype(np.int64)}


def test_npz_with_two_arrays_holds_some_out(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, x=np.arange(10.0)[:, None], y=np.arange(10))
    (x, y), (x_test, y_test) = data.load_npz(path, test_fraction=0.25)
    assert len(x_test) == 3
    assert_array_equal(x[:, 0], y)
    assert_array_equal(x_test[:, 0], y_test)
    assert sorted([*y, *y_test]) == list(range(10))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((2, 3))}, "expected the arrays x_train.*received x in"),
        ({}, "received none in"),
        ({"x": np.zeros((4, 3)), "y": np.zeros(3, int)}, r"integers of shape \(4,\).*\(3,\)"),
        ({"x": np.zeros((4, 3)), "y": np.zeros(4)}, "expected y as integers.*received float64"),
        ({"x": np.zeros(4), "y": np.zeros(4, int)}, "expected images as real numbers"),
        ({"x": np.zeros((4, 2), complex), "y": np.zeros(4, int)}, "received complex128"),
        ({"x": np.array([["a"]]), "y": [0]}, "expected images as real numbers.*received <U1"),
    ],
)
def test_npz_with_other_contents(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        data.load_npz(tmp_path / "d.npz")


def test_load_images(tmp_path: Path) -> None:
    images = np.full((2, 8, 8), 255, np.uint8)
    np.save(tmp_path / "a.npy", images)
    np.savez(tmp_path / "x.npz", x=images)
    np.savez(tmp_path / "both.npz", x=np.zeros((9, 9)), x_test=images)
    (tmp_path / "images-idx3-ubyte").write_bytes(idx_bytes(0x08, (2, 8, 8), images.tobytes()))
    for name in ("a.npy", "x.npz", "both.npz", "images-idx3-ubyte"):
        assert_array_equal(data.load_images(tmp_path / name), np.ones((2, 1, 8, 8), np.float32))
    np.savez(tmp_path / "y.npz", y=images)
    with pytest.raises(ValueError, match="expected the array x_test or x; received y"):
        data.load_images(tmp_path / "y.npz")


ARRAYS: list[Any] = [
    np.arange(6, dtype=np.int16).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(3, dtype=">f4"),
    np.zeros((0, 5), np.uint8),
    np.array(7.5),
    np.array(["a", "longer"]),
    np.array([b"x"]),
    np.array([True, False]),
    np.array([1 + 2j]),
    np.arange(10)[::-2],
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays_come_back(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", array=array)
    np.savez_compressed(tmp_path / "c.npz", array=array)
    for received in (
        read_array(tmp_path / "a.npy"),
        read_arrays(tmp_path / "a.npz")["array"],
        read_arrays(tmp_path / "c.npz")["array"],
    ):
        assert_array_equal(received, array)
        assert received.dtype == array.dtype.newbyteorder("=")
        assert received.flags.c_contiguous
        assert received.flags.writeable


def test_npz_never_unpickles(tmp_path: Path) -> None:
    np.savez(tmp_path / "o.npz", x=np.array([print], dtype=object), y=[0])
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"'x.npy': no header of an array of numbers or text"):
        data.load_npz(tmp_path / "o.npz")
    with pytest.raises(ValueError, match="no header of an array of numbers or text"):
        data.load_images(tmp_path / "o.npy")


def npy_bytes(header: str, payload: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + payload


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 4), }\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }\n",
        "{'descr': '<U999999999', 'fortran_order': False, 'shape': (1,), }\n",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }\n",
        "(" * 5000,
        "__import__('os').abort()",
        "",
    ],
)
def test_npy_header_is_not_believed(tmp_path: Path, header: str) -> None:
    (tmp_path / "h.npy").write_bytes(npy_bytes(header, bytes(8)))
    with pytest.raises(ValueError, match=r"expected a .npy array; received .*h.npy"):
        read_array(tmp_path / "h.npy")
    with zipfile.ZipFile(tmp_path / "h.npz", "w") as archive:
        archive.writestr("x.npy", npy_bytes(header, bytes(8)))
    with pytest.raises(ValueError, match=r"expected a .npz archive of arrays; received .*'x.npy'"):
        read_arrays(tmp_path / "h.npz")


def test_npz_that_claims_more_than_deflate_can_hold(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    np.savez(path, x=np.zeros(3))
    raw = path.read_bytes()
    directory = raw.index(b"PK\x01\x02")
    sizes = struct.pack("<II", 100, 2**31)  # compressed, uncompressed
    path.write_bytes(raw[: directory + 20] + sizes + raw[directory + 28 :])
    with pytest.raises(ValueError, match=r"cannot hold the [0-9]+ bytes it claims"):
        read_arrays(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_npz_of_other_compression(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "d.npz", "w", method) as archive:
        archive.writestr("x.npy", npy_bytes("anything"))
    with pytest.raises(ValueError, match="neither stored nor deflated"):
        read_arrays(tmp_path / "d.npz")


def npz_bytes() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, x=np.arange(12.0).reshape(3, 4), y=np.arange(3))
    return file.getvalue()


@given(position=st.integers(0), value=st.integers(0, 255), cut=st.integers(0, 700) | st.none())
def test_npz_mutated_raises_value_error_only(scratch: Path, position: int, value: int, cut: int | None) -> None:
    raw = bytearray(npz_bytes())
    raw[position % len(raw)] = value
    path = scratch / "mutated.npz"
    path.write_bytes(raw[:cut])
    with contextlib.suppress(ValueError):
        assert sum(array.nbytes for array in read_arrays(path).values()) < 2**20


def test_npz_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        data.load_npz(tmp_path / "none.npz")
