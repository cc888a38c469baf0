"""The oracle itself: against loops that read like the definitions, and against work by hand."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from operators import AVERAGE_POOLINGS, COLUMNS, CONVOLUTIONS, MAX_POOLINGS, POOLINGS, Row

from fastconv import reference


def kernel_of(row: Row) -> tuple[int, int]:
    kernel = row.shapes[1][2:] if row.operator == "conv2d" else row.options["kernel_size"]
    rows, columns = np.broadcast_to(kernel, 2).tolist()
    return rows, columns


def few_taps(row: Row) -> bool:
    """Whether the loops can afford the row."""
    output = row.forward(reference, row.draw(np.float64))[0]
    channels = row.shapes[1][1] if row.operator == "conv2d" else 1
    return output.size * channels * int(np.prod(kernel_of(row))) < 30_000


def sides(padding: Any, size: tuple[int, int], kernel: Any, stride: Any, dilation: Any) -> Any:
    """Give ((top, bottom), (left, right)) of any form of padding."""
    if padding == "same":
        total = [
            max(0, (math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n)
            for n, k, s, d in zip(size, kernel, stride, dilation, strict=True)
        ]
        return [(t // 2, t - t // 2) for t in total]
    if padding == "valid":
        return [(0, 0), (0, 0)]
    if isinstance(padding, int):
        return [(padding, padding)] * 2
    return [p if isinstance(p, tuple) else (p, p) for p in padding]


def starts(n: int, k: int, s: int, pad: tuple[int, int], d: int, ceil_mode: bool) -> list[int]:
    """Count windows: each that fits into the padded axis, and in ceil mode one that leaves it."""
    span = d * (k - 1) + 1
    found = [i - pad[0] for i in range(0, n + sum(pad) - span + 1, s)]
    last = found[-1] + s
    if ceil_mode and last + span - s < n + pad[1] and last < n:
        found.append(last)
    return found


def windows(row: Row, x_shape: tuple[int, ...], kernel: tuple[int, int]) -> Any:
    """Yield each output pixel with the pixels ``{(r, s): (h, w)}`` it reads, padding included."""
    options = row.options
    stride = options.get("stride", 1)
    stride = tuple(np.broadcast_to(kernel if stride is None else stride, 2).tolist())
    dilation = tuple(np.broadcast_to(options.get("dilation", 1), 2).tolist())
    padding = sides(options.get("padding", 0), x_shape[2:], kernel, stride, dilation)
    axes = [
        starts(x_shape[2 + i], kernel[i], stride[i], padding[i], dilation[i], options.get("ceil_mode", False))
        for i in range(2)
    ]
    for (i, h), (j, w) in itertools.product(enumerate(axes[0]), enumerate(axes[1])):
        taps = itertools.product(range(kernel[0]), range(kernel[1]))
        yield (i, j), {(r, s): (h + r * dilation[0], w + s * dilation[1]) for r, s in taps}, padding


def inside(pixel: tuple[int, int], shape: tuple[int, ...], padding: Any = ((0, 0), (0, 0))) -> bool:
    return all(-p[0] <= i < n + p[1] for i, n, p in zip(pixel, shape[2:], padding, strict=True))


CONV_ROWS = [row for row in CONVOLUTIONS if "activation" not in row.options and few_taps(row)]


@pytest.mark.parametrize("row", CONV_ROWS, ids=str)
def test_convolution_by_loops(row: Row) -> None:
    """Forward, both gradients and the bias's, one multiplication at a time, on whole numbers."""
    x, weight, *bias = row.draw(np.float64, "integers")
    (output,) = row.forward(reference, (x, weight, *bias))
    grad = row.draw_like(output, "integers")
    y, grad_x, grad_weight = np.zeros_like(output), np.zeros_like(x), np.zeros_like(weight)
    groups = row.options.get("groups", 1)
    filters, channels = weight.shape[0] // groups, weight.shape[1]
    for (i, j), taps, _ in windows(row, x.shape, kernel_of(row)):
        for (r, s), pixel in taps.items():
            if not inside(pixel, x.shape):
                continue
            h, w = pixel
            for g in range(groups):
                k = slice(g * filters, (g + 1) * filters)
                c = slice(g * channels, (g + 1) * channels)
                y[:, k, i, j] += x[:, c, h, w] @ weight[k, :, r, s].T
                grad_x[:, c, h, w] += grad[:, k, i, j] @ weight[k, :, r, s]
                grad_weight[k, :, r, s] += grad[:, k, i, j].T @ x[:, c, h, w]
    if bias:
        y += bias[0][:, None, None]
    np.testing.assert_array_equal(output, y)
    gradients = row.backward(reference, grad, (x, weight, *bias), output)
    expected = (grad_x, grad_weight, grad.sum(axis=(0, 2, 3)))
    for got, wanted in zip(gradients, expected, strict=False):  # no bias, no gradient of one
        np.testing.assert_array_equal(got, wanted)


MAX_ROWS = [row for row in MAX_POOLINGS if few_taps(row)]
AVERAGE_ROWS = [row for row in AVERAGE_POOLINGS if few_taps(row)]


@pytest.mark.parametrize("row", MAX_ROWS, ids=str)
def test_max_pooling_by_loops(row: Row) -> None:
    """Forward, indices and gradient, on whole numbers with many ties."""
    (x,) = row.draw(np.float64, "integers")
    output, *given = row.forward(reference, (x,))
    grad = row.draw_like(output, "integers")
    y, indices, grad_x = np.full_like(output, np.nan), np.zeros(output.shape, np.int64), np.zeros_like(x)
    for (i, j), taps, _ in windows(row, x.shape, kernel_of(row)):
        pixels = [pixel for pixel in taps.values() if inside(pixel, x.shape)]
        values = np.stack([x[:, :, h, w] for h, w in pixels])
        y[:, :, i, j] = values.max(axis=0)
        first = np.array([h * x.shape[3] + w for h, w in pixels])[values.argmax(axis=0)]
        indices[:, :, i, j] = first
        for n, c in np.ndindex(first.shape):
            grad_x[n, c].flat[first[n, c]] += grad[n, c, i, j]
    np.testing.assert_array_equal(output, y)
    np.testing.assert_array_equal(row.backward(reference, grad, (x,), output)[0], grad_x)
    for got in given:  # with return_indices
        np.testing.assert_array_equal(got, indices)


@pytest.mark.parametrize("row", AVERAGE_ROWS, ids=str)
def test_average_pooling_by_loops(row: Row) -> None:
    (x,) = row.draw(np.float64, "integers")
    (output,) = row.forward(reference, (x,))
    grad = row.draw_like(output, "integers")
    y, grad_x = np.full_like(output, np.nan), np.zeros_like(x)
    for (i, j), taps, padding in windows(row, x.shape, kernel_of(row)):
        pixels = [pixel for pixel in taps.values() if inside(pixel, x.shape)]
        counted = padding if row.options.get("count_include_pad", True) else ((0, 0), (0, 0))
        count = sum(inside(pixel, x.shape, counted) for pixel in taps.values())
        divisor = row.options.get("divisor_override") or count
        y[:, :, i, j] = sum(x[:, :, h, w] for h, w in pixels) / divisor
        for h, w in pixels:
            grad_x[:, :, h, w] += grad[:, :, i, j] / divisor
    np.testing.assert_allclose(output, y, rtol=1e-15)
    np.testing.assert_allclose(row.backward(reference, grad, (x,), output)[0], grad_x, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("case", COLUMNS, ids=str)
def test_columns_by_loops(case: tuple[tuple[int, ...], dict[str, Any]]) -> None:
    x_shape, options = case
    row = Row("im2col", (x_shape,), options)
    (x,) = row.draw(np.float64, "integers")
    (columns,) = row.forward(reference, (x,))
    expected = []
    for _, taps, _ in windows(row, x_shape, kernel_of(row)):
        column = [x[:, :, h, w] if inside((h, w), x_shape) else np.zeros(x_shape[:2]) for h, w in taps.values()]
        expected.append(np.stack(column, axis=2).reshape(x_shape[0], columns.shape[1]))
    np.testing.assert_array_equal(columns, np.stack(expected, axis=2))


def test_table_reaches_the_loops() -> None:
    """Guard: the rows that the loops can afford are most of them, with every kind of option."""
    assert len(CONV_ROWS) > 80
    assert len(MAX_ROWS) > 60
    assert len(AVERAGE_ROWS) > 60
    used = set().union(*(row.options for row in (*CONV_ROWS, *MAX_ROWS, *AVERAGE_ROWS)))
    assert {"stride", "padding", "dilation", "groups", "ceil_mode", "divisor_override"} <= used
    assert any(options.get("ceil_mode") for *_, options in POOLINGS)


# --- worked by hand ------------------------------------------------------------------------------

IMAGE = np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]], float)
CROSS = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], float)
EDGES = np.array(
    [
        [5, 3, 6, 8, 9, 1],
        [1, 6, 8, 3, 2, 1],
        [9, 9, 3, 2, 1, -1],
        [1, 1, 8, 4, 6, 5],
        [9, 3, 4, 0, 0, 1],
        [0, 1, 2, 3, 4, 3],
    ],
    float,
)
VERTICAL = np.array([[1, 0, -1]] * 3, float)


@pytest.mark.parametrize(
    ("image", "kernel", "expected"),
    [
        (IMAGE, CROSS, [[4, 3, 4], [2, 4, 3], [2, 3, 4]]),
        (EDGES, VERTICAL, [[-2, 5, 5, 12], [-8, 7, 10, 4], [4, 7, 8, 1], [-4, -2, 4, -2]]),
        (EDGES[:3], VERTICAL.T, [[-7, 3, 17, 16]]),
    ],
    ids=["cross", "vertical edges", "horizontal edges"],
)
def test_convolution_by_hand(image: np.ndarray, kernel: np.ndarray, expected: Any) -> None:
    result = reference.conv2d(image[None, None], kernel[None, None])
    np.testing.assert_array_equal(result[0, 0], expected)


def test_functions_by_hand() -> None:
    np.testing.assert_allclose(
        reference.softmax(np.array([3.2, 1.3, 0.2, 0.8])),
        [0.77514955, 0.11593805, 0.03859242, 0.07031998],
        rtol=1e-7,
    )
    np.testing.assert_allclose(
        reference.sigmoid(np.array([3, 1.75, -2, 0.5])),
        [0.95257413, 0.85195280, 0.11920292, 0.62245933],
        rtol=1e-7,
    )
    assert reference.sigmoid_backward(np.ones(1), reference.sigmoid(np.zeros(1))) == [0.25]
    assert reference.tanh_backward(np.ones(1), np.array([0.5])) == [0.75]


def test_max_pool_rules() -> None:
    """NaN wins, the first of equals wins, minus infinity is a value as any other."""
    nan, inf = np.nan, np.inf
    x = np.array([[1, nan, -inf, -inf], [nan, 2, -inf, -inf], [3, 3, 0, inf], [3, 3, inf, 0]])
    y, indices = reference.max_pool2d(x[None, None], 2, return_indices=True)
    np.testing.assert_array_equal(y[0, 0], [[nan, -inf], [3, inf]])
    np.testing.assert_array_equal(indices[0, 0], [[1, 2], [8, 11]])
    grad = reference.max_pool2d_backward(np.full((1, 1, 2, 2), 5.0), x[None, None], 2)
    assert np.flatnonzero(grad).tolist() == [1, 2, 8, 11]
