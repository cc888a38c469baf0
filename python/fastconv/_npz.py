"""Reads .npy and .npz files that may come from anyone: no pickle, no evaluation, no bomb.

NumPy's reader allocates the shape a header claims before it has seen a byte of it, evaluates the
header as a Python literal, and follows compressed data wherever it leads. Here a header must
match the one pattern ``np.save`` writes, and each claimed size is held against the bytes there.
Data sets and saved models are both read through here.
"""

from __future__ import annotations

import errno
import math
import os
import re
import zipfile
import zlib
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

DEFLATE_RATIO = 1032
"""The most bytes one byte of DEFLATE can become (https://zlib.net/zlib_tech.html)."""

_PREFIX = b"\x93NUMPY\x01\x00"
_DTYPE = rb"\|[biu]1|[<>][iuf][248]|[<>]c8|[<>]c16|\|S\d{1,8}|[<>]U\d{1,8}"
_HEADER = re.compile(
    rb"\{'descr': '(" + _DTYPE + rb")', 'fortran_order': (True|False), "
    rb"'shape': \((|\d{1,19},|\d{1,19}(?:, \d{1,19})+)\), \} *\n"
)


def read_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Read every array of a .npz archive.

    Parameters
    ----------
    path : str or path-like
        The archive, as ``np.savez`` and ``np.savez_compressed`` write it.

    Returns
    -------
    dict
        Name to array: C-contiguous, writable, in the machine's byte order.

    Raises
    ------
    OSError
        If the file cannot be opened or read.
    ValueError
        If it is no .npz archive, is damaged, holds anything but numbers and text, or claims
        sizes that its own bytes cannot hold.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "data.npz")
    ...     np.savez(path, x=np.arange(3))
    ...     read_arrays(path)
    {'x': array([0, 1, 2])}
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            size = os.fstat(file.fileno()).st_size
            claimed = sum(member.file_size for member in members)
            if claimed > DEFLATE_RATIO * size:
                raise ValueError(f"its {size} bytes cannot hold the {claimed} bytes it claims")
            return {m.filename.removesuffix(".npy"): _read_member(archive, m) for m in members}
    except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise _invalid(path, error, ".npz archive of arrays") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a damaged directory sends zipfile to a negative offset
            raise
        raise _invalid(path, error, ".npz archive of arrays") from error


def read_array(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read the array of a .npy file.

    Parameters
    ----------
    path : str or path-like
        The file, as ``np.save`` writes it.

    Returns
    -------
    ndarray
        C-contiguous, writable, in the machine's byte order.

    Raises
    ------
    OSError
        If the file cannot be opened or read.
    ValueError
        If it is no .npy file, is damaged, or holds anything but numbers and text.
    """
    try:
        with open(path, "rb") as file:
            return _read_array(file)
    except ValueError as error:
        raise _invalid(path, error, ".npy array") from error


def _invalid(path: str | os.PathLike[str], reason: Exception, kind: str) -> ValueError:
    return ValueError(f"expected a {kind}; received {os.fspath(path)}: {reason}")


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename!r} is neither stored nor deflated")
    with archive.open(member) as stream:
        try:
            return _read_array(stream)
        except ValueError as error:
            raise ValueError(f"{member.filename!r}: {error}") from error


def _read_array(stream: IO[bytes]) -> NDArray[Any]:
    """Read header and values; `stream` holds nothing after them, and no more than it should."""
    prefix = stream.read(len(_PREFIX))
    length = int.from_bytes(stream.read(2), "little")
    match = _HEADER.fullmatch(stream.read(length))
    if prefix != _PREFIX or match is None:
        raise ValueError("no header of an array of numbers or text")
    descr, fortran_order, sizes = match.groups()
    dtype = np.dtype(descr.decode())
    shape = tuple(int(size) for size in sizes.split(b",") if size)
    expected = math.prod(shape) * dtype.itemsize
    payload = stream.read()
    if len(payload) != expected:
        raise ValueError(f"shape {shape} and dtype {dtype} take {expected} bytes, {len(payload)} are there")
    array = np.ndarray(shape, dtype, payload, order="F" if fortran_order == b"True" else "C")
    return np.array(array, dtype=dtype.newbyteorder("="), order="C")
