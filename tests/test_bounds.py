"""No kernel touches memory outside its arrays: every array ends, or begins, at a page that may not be touched.

A single byte read or written beyond faults, and ends the process; so it is a process of its own, which says what
row it is at. Vector loads at the tails of rows are what this is about.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from ctypes import CDLL, c_int, c_size_t, c_void_p
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import numpy.typing as npt
import pytest

needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forbids pages with Linux's mprotect")


def guarded(shape: tuple[int, ...], dtype: npt.DTypeLike, at_end: bool) -> np.ndarray:
    """Allocate an array flush with a forbidden page, after it or before it."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    block = mmap.mmap(-1, pages + 2 * mmap.PAGESIZE)
    everything = np.frombuffer(block, np.uint8)
    start = everything.ctypes.data
    for page in (start, start + mmap.PAGESIZE + pages):
        forbid(page)
    offset = mmap.PAGESIZE + (pages - size if at_end else 0)
    return everything[offset : offset + size].view(dtype).reshape(shape)


def forbid(address: int) -> None:
    protect = CDLL(None, use_errno=True).mprotect
    protect.argtypes = (c_void_p, c_size_t, c_int)
    if protect(address, mmap.PAGESIZE, 0):
        raise OSError("mprotect failed")


def place(at_end: bool) -> Callable[[np.ndarray], np.ndarray]:
    def copy(a: np.ndarray) -> np.ndarray:
        b = guarded(a.shape, a.dtype, at_end)
        b[...] = a
        return b

    return copy


def main() -> None:
    """Call every row with all its arrays, and all that the operators allocate, flush with forbidden pages."""
    from operators import ROWS

    import fastconv
    from fastconv import _call, ops, reference

    fastconv.set_num_threads(1)  # the work is split by shape alone
    rows = [row for row in ROWS if "update" not in row.operator and all(map(np.prod, row.shapes))]
    for row in rows:
        for dtype in (np.float32, np.float64):
            drawn = row.draw(dtype)
            output = row.forward(reference, drawn)[0]
            grad = row.draw_like(output)
            for at_end in (True, False):
                print(f"{row} {np.dtype(dtype)} {'end' if at_end else 'begin'}", flush=True)
                put = place(at_end)
                _call.empty = allocate = Mock(side_effect=partial(guarded, at_end=at_end))
                _call.results = lambda given, wants, shapes, dtype, inputs, new=allocate: tuple(
                    new(shape, dtype) if want else None for want, shape in zip(wants, shapes, strict=True)
                )
                arrays = tuple(put(a) for a in drawn)
                placed_grad, placed_output = put(grad), put(output)
                for algorithm in ("auto", "winograd") if row.operator == "conv2d" else ("auto",):
                    fastconv.set_algorithm(algorithm)
                    row.forward(ops, arrays)
                    row.backward(ops, placed_grad, arrays, placed_output)
                assert allocate.call_count >= 2  # the results lie where they were put
    print(f"done {len(rows)}")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@needs_linux
def test_no_row_touches_memory_beyond_its_arrays() -> None:
    done = run(__file__)
    assert done.returncode == 0, f"at {done.stdout[-200:]}\n{done.stderr}"
    assert int(done.stdout.split()[-1]) > 450


@needs_linux
@pytest.mark.parametrize("offset", [-1, 7])
def test_guard_guards(offset: int) -> None:
    """Reading beyond an array does end the process."""
    program = f"""
import numpy as np
from test_bounds import guarded
a = guarded((7,), np.float32, {offset > 0})
print(a[3], flush=True)
print(np.lib.stride_tricks.as_strided(a[{max(offset - 1, 0)}:], (2,), ({int(np.sign(offset)) * 4},)).sum())
"""
    done = run("-c", program)
    assert done.stdout == "0.0\n"
    assert done.returncode < 0


if __name__ == "__main__":
    main()
