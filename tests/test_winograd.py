"""Winograd's way on every 3x3 convolution of the table, also where "auto" would not take it; and the choice itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from checks import assert_same_bits, check_whole_numbers
from operators import CONVOLUTIONS, Row

import fastconv
from fastconv import ops, reference
from fastconv._algorithm import takes_winograd
from fastconv._shapes import Geometry, geometry


@pytest.fixture(autouse=True)
def _winograd() -> Iterator[None]:
    fastconv.set_algorithm("winograd")
    yield
    fastconv.set_algorithm("auto")


def geometry_of(row: Row) -> Geometry:
    x, weight, *_ = row.shapes
    options = {name: row.options.get(name, default) for name, default in (("stride", 1), ("padding", 0))}
    return geometry(x[2], x[3], weight[2:], dilation=row.options.get("dilation", 1), **options)


def taken(row: Row) -> bool:
    x, weight, *_ = row.shapes
    return takes_winograd(x[0], x[1], weight[0], geometry_of(row), row.options.get("groups", 1))


def rows() -> list[Row]:
    fastconv.set_algorithm("winograd")
    chosen = [row for row in CONVOLUTIONS if taken(row) and row.shapes[0][0]]
    fastconv.set_algorithm("auto")
    return chosen


ROWS = rows()
every_row = pytest.mark.parametrize("row", ROWS, ids=str)
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def test_table_has_such_rows() -> None:
    assert len(ROWS) > 40
    paddings = {str(geometry_of(row).padding) for row in ROWS}
    assert len(paddings) > 3, paddings
    assert {row.shapes[0][3] % 2 for row in ROWS} == {0, 1}


def sums_of_tiles(magnitude: np.ndarray) -> np.ndarray:
    """Spread each pixel over the 4x4 tiles that hold it: what an output's rounding errors grow with."""
    padded = np.pad(magnitude, ((0, 0), (0, 0), (3, 3), (3, 3)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), axis=(2, 3))
    largest: np.ndarray = windows.max(axis=(-1, -2))
    return largest


@both_dtypes
@every_row
def test_errors_are_those_of_a_tile(row: Row, dtype: Any) -> None:
    """Each result to a few roundings of the sum of products of its tiles' largest numbers."""
    arrays = row.draw(dtype)
    x, weight, *_ = arrays
    output = row.forward(reference, arrays)[0]
    grad = row.draw_like(output)
    options = {name: value for name, value in row.options.items() if name != "activation"}
    eps = np.finfo(dtype).eps / 2 * (2 if dtype == np.float64 else 1)

    def bound(length: int) -> float:
        return float(eps * (8 + 2 * length**0.5))

    wide = [a.astype(np.float64) for a in arrays]
    largest_weight = np.broadcast_to(np.abs(wide[1]).max(axis=(2, 3), keepdims=True), weight.shape)
    magnitudes = [sums_of_tiles(np.abs(wide[0])), largest_weight, *map(np.abs, wide[2:])]
    allowed = bound(9 * x.shape[1]) * reference.conv2d(*magnitudes, **options)
    with_bias = [wide[0], wide[1], *wide[2:]]
    got = ops.conv2d(*arrays, **options)
    assert (np.abs(got - reference.conv2d(*with_bias, **options)) <= allowed).all()

    backward = reference.conv2d_backward
    got_x, got_weight, _ = ops.conv2d_backward(grad, x, weight, **options)
    exact_x, exact_weight, _ = backward(grad.astype(np.float64), wide[0], wide[1], **options)
    large_grad = sums_of_tiles(np.abs(grad.astype(np.float64)))
    allowed_x, allowed_weight, _ = backward(large_grad, magnitudes[0], largest_weight, **options)
    assert (np.abs(got_x - exact_x) <= bound(9 * weight.shape[0]) * sums_of_tiles(allowed_x)).all()
    allowed_weight = allowed_weight.max(axis=(2, 3), keepdims=True)
    assert (np.abs(got_weight - exact_weight) <= bound(output[:, 0].size) * allowed_weight).all()


@both_dtypes
@pytest.mark.parametrize("row", [row for row in ROWS if row.integral], ids=str)
def test_whole_numbers_are_exact(row: Row, dtype: Any) -> None:
    """Halves and quarters of whole numbers are exact too."""
    check_whole_numbers(row, dtype)


@both_dtypes
@every_row
def test_same_bits_for_any_number_of_threads(row: Row, dtype: Any) -> None:
    arrays = row.draw(dtype)
    grad = row.draw_like(row.forward(reference, arrays)[0])
    results = []
    for threads in (1, 2, 5):
        with fastconv.num_threads(threads):
            output = row.forward(ops, arrays)
            results.append(output + row.backward(ops, grad, arrays, output[0]))
    assert_same_bits(results[1], results[0])
    assert_same_bits(results[2], results[0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@every_row
def test_what_is_not_finite_takes_the_direct_way(row: Row, value: float) -> None:
    """Bit for bit: in the image that holds it, and in grad-weight. 3e38 overflows in the sums of a tile alone."""
    x, weight, *rest = row.draw(np.float32)
    weight *= np.float32(1e-3)
    x.flat[7 % x.size] = value
    options = {name: option for name, option in row.options.items() if name != "activation"}
    grad = row.draw_like(row.forward(reference, (x, weight, *rest))[0])
    if not np.isfinite(value):
        got = ops.conv2d(x, weight, *rest, **options)[:1]
        got_weight = ops.conv2d_backward(grad, x, weight, **options)[1]
        fastconv.set_algorithm("direct")
        assert_same_bits((got,), (ops.conv2d(x[:1], weight, *rest, **options),))
        assert_same_bits((got_weight,), (ops.conv2d_backward(grad, x, weight, **options)[1],))
    else:
        with np.errstate(over="ignore"):
            expected = reference.conv2d(x.astype(np.float64), weight.astype(np.float64), **options).astype(np.float32)
        got = ops.conv2d(x, weight, **options)
        np.testing.assert_array_equal(np.isfinite(got), np.isfinite(expected))


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of resident memory as Linux counts it")
@pytest.mark.parametrize(("channels", "size"), [(64, 256), (512, 28)])
def test_workspace_does_not_grow_with_the_image(channels: int, size: int) -> None:
    """The transformed filters, and of one block of tiles V, M and pixels. All tiles at once would take four images."""
    script = f"""
import resource, numpy as np, fastconv as fc
fc.set_num_threads(1)
x = np.ones((1, {channels}, {size}, {size}), np.float32)
weight = np.ones(({channels}, {channels}, 3, 3), np.float32)
out = np.ones_like(x)
fc.conv2d(x[:, :, :16, :16].copy(), weight, padding=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fc.conv2d(x, weight, padding=1, out=out)
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before), x.nbytes)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    grown, image = map(int, result.stdout.split())
    assert grown < 4 * 2**20, (grown, image)


def test_setting() -> None:
    assert fastconv.get_algorithm() == "winograd"
    for name in ("direct", "auto"):
        fastconv.set_algorithm(name)
        assert fastconv.get_algorithm() == name


@pytest.mark.parametrize(("value", "error"), [("fft", ValueError), ("", ValueError), (None, TypeError), (1, TypeError)])
def test_bad_setting(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match='expected one of "auto", "direct", "winograd"; received'):
        fastconv.set_algorithm(value)
    assert fastconv.get_algorithm() == "winograd"


# The plan as a table: images, channels, outputs, height, width, options, and what "auto" takes.
CHOICES = [
    (8, 64, 64, 56, 56, {"padding": 1}, True),
    (128, 64, 128, 8, 8, {"padding": 1}, True),
    (1, 32, 32, 32, 32, {"padding": 1}, True),
    (128, 3, 32, 32, 32, {"padding": 1}, False),  # too few channels
    (64, 32, 16, 32, 32, {"padding": 1}, True),
    (64, 24, 40, 32, 32, {"padding": 1}, True),
    (64, 20, 32, 32, 32, {"padding": 1}, False),  # channels that leave vectors half empty
    (64, 32, 8, 32, 32, {"padding": 1}, False),
    (1, 512, 512, 4, 4, {"padding": 1}, False),  # four tiles a filter
    (64, 64, 64, 3, 3, {"padding": 1}, False),  # 9 of 16 outputs lie outside
    (8, 64, 64, 56, 56, {"stride": 2}, False),
    (8, 64, 64, 56, 56, {"dilation": 2}, True),
    (8, 64, 64, 56, 56, {"dilation": (1, 3), "padding": (2, 6)}, True),
    (8, 64, 64, 9, 9, {"dilation": 4, "padding": 4}, False),  # 9 rows in 4 residues take 16
    (8, 64, 64, 56, 56, {"padding": 3}, False),
    (8, 64, 64, 56, 56, {"dilation": 2, "padding": 5}, False),
    (1, 512, 512, 4, 4000, {}, False),  # a row beyond any cache
]


@pytest.mark.parametrize(("n", "c", "k", "height", "width", "options", "winograd"), CHOICES)
def test_choice(n: int, c: int, k: int, height: int, width: int, options: dict[str, Any], winograd: bool) -> None:
    fastconv.set_algorithm("auto")
    window = geometry(height, width, (3, 3), **{"stride": 1, "padding": 0, "dilation": 1, **options})
    assert takes_winograd(n, c, k, window, 1) is winograd
    assert not takes_winograd(n, c, k, window, 2)
    assert takes_winograd(n, c, k, window, 1, to_weight=True) >= winograd
    fastconv.set_algorithm("direct")
    assert not takes_winograd(n, c, k, window, 1)
    assert not takes_winograd(n, c, k, window, 1, to_weight=True)


def test_gradient_of_the_weight_takes_any_number_from_16_on() -> None:
    fastconv.set_algorithm("auto")
    window = geometry(32, 32, (3, 3), stride=1, padding=1, dilation=1)
    assert [n for n in range(14, 20) if takes_winograd(64, n, 32, window, 1, to_weight=True)] == [16, 17, 18, 19]
    assert [n for n in range(14, 26) if takes_winograd(64, 32, n, window, 1)] == [16, 24]
