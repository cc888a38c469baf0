"""What the tests hold results to: the error bound, the same bits; and the layouts an array can have."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from operators import Row

from fastconv import ops, reference

Arrays = tuple[np.ndarray, ...]


def widen(*arrays: np.ndarray) -> Arrays:
    """Give the same numbers in float64."""
    return tuple(a.astype(np.float64) for a in arrays)


def assert_within(actual: Arrays, expected: Arrays, bound: Arrays, dtype: Any) -> None:
    """Hold each element to its bound, in halves of an epsilon.

    The oracle computes in float64, so it rounds as a float64 kernel does: there the error of both
    counts. A subnormal result may be a few of the smallest numbers off.
    """
    info = np.finfo(dtype)
    unit = info.eps / 2 if dtype == np.float32 else info.eps
    for got, wanted, units in zip(actual, expected, bound, strict=True):
        assert got.shape == wanted.shape
        assert got.flags.c_contiguous
        if wanted.dtype.kind in "iu":
            assert got.dtype == wanted.dtype
            np.testing.assert_array_equal(got, wanted)
            continue
        assert got.dtype == dtype
        limit = units * unit + 4 * info.smallest_subnormal * (units > 0)
        excess = np.abs(got - wanted) - limit
        wrong = ~(excess <= 0)  # a NaN is wrong too
        if wrong.any():
            at = tuple(map(int, np.argwhere(wrong)[0]))
            raise AssertionError(
                f"expected {wanted[at]!r} within {limit[at]:.3g} at {at}; received {got[at]!r}; "
                f"{np.count_nonzero(wrong)} of {wrong.size} elements are wrong"
            )


def check_forward(row: Row, dtype: Any) -> None:
    """Hold the forward to the oracle, on real numbers; it leaves its arrays as they are."""
    arrays = row.draw(dtype)
    wide = widen(*arrays)
    expected = row.forward(reference, wide)
    assert_within(row.forward(ops, arrays), expected, row.forward_bound(reference, wide), dtype)
    assert_same_bits(arrays, row.draw(dtype))


def check_backward(row: Row, dtype: Any) -> None:
    """Hold the backward to the oracle, on real numbers and from the same output."""
    arrays = row.draw(dtype)
    output = row.forward(reference, arrays)[0]
    grad = row.draw_like(output)
    wide_grad, wide_output, *wide = widen(grad, output, *arrays)
    expected = row.backward(reference, wide_grad, tuple(wide), wide_output)
    bound = row.backward_bound(reference, wide_grad, tuple(wide), wide_output)
    assert_within(row.backward(ops, grad, arrays, output), expected, bound, dtype)
    assert_same_bits((grad, *arrays), (row.draw_like(output), *row.draw(dtype)))


def check_whole_numbers(row: Row, dtype: Any) -> None:
    """Hold forward and backward to the oracle on whole numbers: not one bit off."""
    arrays = row.draw(dtype, "integers")
    output = row.forward(reference, arrays)[0]
    grad = row.draw_like(output, "integers")
    wide_grad, wide_output, *wide = widen(grad, output, *arrays)
    expected = row.forward(reference, tuple(wide))
    for got, wanted in zip(row.forward(ops, arrays), expected, strict=True):
        np.testing.assert_array_equal(got, wanted, strict=wanted.dtype.kind in "iu")
    expected = row.backward(reference, wide_grad, tuple(wide), wide_output)
    for got, wanted in zip(row.backward(ops, grad, arrays, output), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def assert_same_bits(actual: Arrays, expected: Arrays) -> None:
    for got, wanted in zip(actual, expected, strict=True):
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
        if got.tobytes() != wanted.tobytes():
            count = np.count_nonzero(got != wanted)
            raise AssertionError(f"expected the same bits; received {count} of {got.size} others")


def run_python(program: str, **environment: str) -> str:
    """Run a program in a fresh interpreter and give what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- layouts -------------------------------------------------------------------------------------


def negative_strides(a: np.ndarray) -> np.ndarray:
    return np.flip(np.flip(a).copy())


def every_second(a: np.ndarray) -> np.ndarray:
    """View into an array twice as long on every axis, NaN between."""
    doubled = np.full([2 * n for n in a.shape], np.nan, a.dtype)
    view = doubled[(..., *(slice(None, None, 2) for _ in a.shape))]
    view[...] = a
    return view


def first_axis_fastest(a: np.ndarray) -> np.ndarray:
    return a.copy(order="F")


def channels_last(a: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1) if a.ndim > 2 else a.copy(order="F")


def read_only(a: np.ndarray) -> np.ndarray:
    a = a.copy()
    a.flags.writeable = False
    return a


def byte_swapped(a: np.ndarray) -> np.ndarray:
    return a.astype(a.dtype.newbyteorder())


def misaligned(a: np.ndarray) -> np.ndarray:
    """Copy to an address that is no multiple of the item size."""
    bytes_ = np.empty(a.nbytes + 1, np.uint8)
    view = np.ndarray(a.shape, a.dtype, bytes_.data, offset=1)
    view[...] = a
    return view


LAYOUTS: list[Callable[[np.ndarray], np.ndarray]] = [
    negative_strides,
    every_second,
    first_axis_fastest,
    channels_last,
    read_only,
    byte_swapped,
    misaligned,
]
