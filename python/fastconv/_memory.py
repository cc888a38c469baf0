"""Where results live: fresh arrays, or, during a training step, an arena that is rewound each step.

A fresh large array costs a page fault for every 4 KiB that is written, which can be many times the arithmetic.
A training step therefore runs inside ``with arena.scope()``: every operator takes its result from one block,
and the next step takes the same bytes again.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

_ALIGNMENT = 64  # bytes: a cache line, and the widest vector register


class Arena:
    """A block of memory that is handed out piece by piece and taken back whole.

    The first scope finds out how much a step needs; from the second on it allocates nothing. Arrays are valid
    until the next scope begins: copy what must live longer.
    """

    def __init__(self) -> None:
        self._block: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
        self._start = 0  # of the first aligned byte
        self._used = 0
        self._open = False

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Take the memory back and serve the calling thread's `empty` until the block ends."""
        if self._open:
            raise RuntimeError("Arena.scope: this arena is in use; one step must end before the next")
        self._used = 0
        self._open = True
        before = _local.arena
        _local.arena = self
        try:
            yield
        finally:
            _local.arena = before
            self._open = False
            if self._start + self._used > self._block.size:
                self._block = np.empty(self._used + _ALIGNMENT, np.uint8)
                self._start = -self._block.ctypes.data % _ALIGNMENT

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an uninitialised array, from the block while it lasts."""
        dtype = np.dtype(dtype)
        offset = self._start + self._used
        size = math.prod(shape) * dtype.itemsize
        self._used += -(-size // _ALIGNMENT) * _ALIGNMENT
        if self._start + self._used > self._block.size:
            return np.empty(shape, dtype)
        return np.ndarray(shape, dtype, self._block, offset)


class _Local(threading.local):
    arena: Arena | None = None


_local = _Local()


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return an uninitialised array: from the calling thread's open arena, else a fresh one."""
    arena = _local.arena
    if arena is None:
        return np.empty(shape, dtype)
    return arena.empty(shape, dtype)
