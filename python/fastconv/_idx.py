"""Reads IDX files, the format of MNIST and its kin, plain or gzip, from whoever made them.

The format is a few lines, so it is read here rather than by a package; and nothing a file claims
about itself is believed before it is checked: sixteen bytes can ask for any amount of memory.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import os
import sys
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._npz import DEFLATE_RATIO

_DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 20
_MAX_DIMENSIONS = 32  # what every supported NumPy can hold


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read one IDX file, the format of MNIST, Fashion-MNIST and KMNIST.

    The format is two zero bytes, a type code, the number of dimensions, each dimension as a
    big-endian 32-bit integer, then the values, big-endian, the last dimension running fastest
    (LeCun, Cortes and Burges, "The MNIST database of handwritten digits").

    Parameters
    ----------
    path : str or path-like
        The file, plain or gzip: its first bytes tell, not its name.

    Returns
    -------
    ndarray
        uint8, int8, int16, int32, float32 or float64 as the file says, in the machine's byte
        order, writable.

    Raises
    ------
    OSError
        If the file cannot be opened or read.
    ValueError
        If it is no IDX file, or its size is not the one its header gives. No memory is taken on
        the header's word alone.

    Examples
    --------
    >>> import tempfile
    >>> header = bytes([0, 0, 0x08, 2, 0, 0, 0, 2, 0, 0, 0, 3])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "images-idx2-ubyte")
    ...     with open(path, "wb") as file:
    ...         _ = file.write(header + bytes(range(6)))
    ...     read_idx(path)
    array([[0, 1, 2],
           [3, 4, 5]], dtype=uint8)
    """
    with _open_maybe_gzip(path) as (stream, capacity):
        dtype, shape = _read_header(stream, path)
        expected = math.prod(shape) * dtype.itemsize
        if expected > capacity:
            raise ValueError(
                f"expected {expected} bytes of values for the shape {shape} in the header of "
                f"{os.fspath(path)}; received a file that can hold {capacity} at most"
            )
        payload = bytearray()
        while chunk := stream.read(min(_CHUNK, expected + 1 - len(payload))):
            payload += chunk
    if len(payload) != expected:
        received = "more" if len(payload) > expected else str(len(payload))
        raise ValueError(
            f"expected {expected} bytes of values for the shape {shape} in the header of "
            f"{os.fspath(path)}; received {received}"
        )
    return np.frombuffer(payload, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


@contextlib.contextmanager
def _open_maybe_gzip(path: str | os.PathLike[str]) -> Iterator[tuple[BufferedIOBase, int]]:
    """Open a file, through gzip if it is gzip; yields with it the most bytes it can hold."""
    with open(path, "rb") as file:
        capacity = os.fstat(file.fileno()).st_size
        magic = file.read(len(_GZIP_MAGIC))
        file.seek(0)
        if magic != _GZIP_MAGIC:
            yield file, capacity
            return
        try:
            with gzip.GzipFile(fileobj=file) as unzipped:
                yield unzipped, capacity * DEFLATE_RATIO
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"expected whole gzip data; received {os.fspath(path)}: {error}") from error


def _read_header(stream: BufferedIOBase, path: str | os.PathLike[str]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = stream.read(4)
    dtype = _DTYPES.get(magic[2]) if len(magic) == 4 and magic[:2] == b"\0\0" else None
    if dtype is None or not 1 <= magic[3] <= _MAX_DIMENSIONS:
        codes = ", ".join(f"{code:#04x} {dtype.name}" for code, dtype in _DTYPES.items())
        raise ValueError(
            f"expected an IDX file: two zero bytes, a type code ({codes}) and 1 to "
            f"{_MAX_DIMENSIONS} dimensions; received {os.fspath(path)}, which begins "
            f"{magic.hex(' ') or 'with nothing'}"
        )
    sizes = stream.read(4 * magic[3])
    if len(sizes) != 4 * magic[3]:
        raise ValueError(
            f"expected {magic[3]} dimensions of 4 bytes each in the header of "
            f"{os.fspath(path)}; received {len(sizes)} bytes"
        )
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    if math.prod(size for size in shape if size) * dtype.itemsize > sys.maxsize:
        raise ValueError(
            f"expected a shape that an array can have in the header of {os.fspath(path)}; received {shape}"
        )
    return dtype, shape
