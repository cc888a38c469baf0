"""Pooling: a loop over the taps of the window, each a strided view of the whole batch."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np

from ._windows import Array, Axis, Padding, Pair, axes, buffer, interior, pad, taps


def max_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    *,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Largest pixel of each window; NaN wins, padding never does, the first index wins ties.

    Examples
    --------
    >>> x = np.array([[8.0, 4, 2, 1], [9, 3, 2, 8], [1, 5, 7, 1], [2, 0, 3, 7]])
    >>> max_pool2d(x.reshape(1, 1, 4, 4), 2)[0, 0]
    array([[9., 8.],
           [5., 7.]])
    """
    rows, cols = axes(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    y = _fold(np.maximum, taps(pad(x, rows, cols, -np.inf), rows, cols))
    if not return_indices:
        return y
    pixels = np.arange(rows.size * cols.size).reshape(1, 1, rows.size, cols.size)
    indices = np.zeros(y.shape, np.int64)
    flat = taps(pad(pixels, rows, cols, 0), rows, cols)
    for chosen, pixel in zip(_first_maximum(x, rows, cols), flat, strict=True):
        indices += chosen * pixel
    return y, indices


def max_pool2d_backward(
    grad_output: Array,
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    *,
    ceil_mode: bool = False,
) -> Array:
    """Gradient of `max_pool2d`: each output's gradient goes to the one pixel it was read from.

    Examples
    --------
    >>> max_pool2d_backward(np.ones((1, 1, 1, 1)), np.array([[[[8.0, 4.0], [9.0, 9.0]]]]), 2)[0, 0]
    array([[0., 0.],
           [1., 0.]])
    """
    rows, cols = axes(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    padded = buffer(x.shape, rows, cols, 0.0, grad_output.dtype)
    views = taps(padded, rows, cols)
    for chosen, view in zip(_first_maximum(x, rows, cols), views, strict=True):
        view += np.where(chosen, grad_output, 0)
    return np.ascontiguousarray(interior(padded, rows, cols))


def max_pool2x2(x: Array) -> tuple[Array, Array]:
    """Largest pixel of each window of 2 x 2, side by side, and its tap: 2 * row + column.

    Examples
    --------
    >>> y, taps = max_pool2x2(np.array([[8.0, 4, 2, 1], [9, 3, 2, 8]]).reshape(1, 1, 2, 4))
    >>> y.ravel(), taps.ravel()
    (array([9., 8.]), array([2, 3], dtype=uint8))
    """
    y, indices = max_pool2d(x, 2, return_indices=True)
    row, column = np.divmod(indices, x.shape[3])
    return y, (2 * (row % 2) + column % 2).astype(np.uint8)


def max_pool2x2_backward(grad_output: Array, taps: Array, x_shape: tuple[int, ...]) -> Array:
    """Gradient of `max_pool2x2`: each output's gradient goes to the tap that it was read from.

    Examples
    --------
    >>> max_pool2x2_backward(np.ones((1, 1, 1, 1)), np.array([[[[2]]]], np.uint8), (1, 1, 2, 2))[0, 0]
    array([[0., 0.],
           [1., 0.]])
    """
    grad_x = np.zeros(x_shape, grad_output.dtype)
    rows, columns = (2 * size for size in grad_output.shape[2:])
    for tap in range(4):
        row, column = divmod(tap, 2)
        grad_x[:, :, row:rows:2, column:columns:2] = np.where(taps == tap, grad_output, 0)
    return grad_x


def _fold(ufunc: np.ufunc, views: Iterator[Array]) -> Array:
    """Fold equal-shaped views into one new array."""
    result: Array = next(views).copy()
    for view in views:
        ufunc(result, view, out=result)
    return result


def _first_maximum(x: Array, rows: Axis, cols: Axis) -> Iterator[Array]:
    """For each tap, where it is the first of its window to hold the maximum (or a NaN)."""
    padded = pad(x, rows, cols, -np.inf)
    inside = pad(np.ones((1, 1, rows.size, cols.size), bool), rows, cols, False)
    largest = _fold(np.maximum, taps(padded, rows, cols))
    unclaimed = np.ones(largest.shape, bool)
    for value, real in zip(taps(padded, rows, cols), taps(inside, rows, cols), strict=True):
        chosen = unclaimed & real & ((value == largest) | np.isnan(value))
        unclaimed &= ~chosen
        yield chosen


def avg_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """Sum of each window over its divisor, which counts no tap past the padded image.

    Examples
    --------
    >>> avg_pool2d(np.ones((1, 1, 3, 3)), 2, ceil_mode=True, padding=1)[0, 0]
    array([[0.25, 0.5 ],
           [0.5 , 1.  ]])
    """
    rows, cols = axes(x.shape, kernel_size, stride, padding, 1, ceil_mode)
    total = _fold(np.add, taps(pad(x, rows, cols, 0.0), rows, cols))
    divisor = _divisor(rows, cols, count_include_pad, divisor_override)
    total /= divisor.astype(x.dtype)
    return total


def avg_pool2d_backward(
    grad_output: Array,
    x_shape: tuple[int, int, int, int],
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """Gradient of `avg_pool2d`: each output's gradient over its divisor, to every pixel it read.

    Examples
    --------
    >>> avg_pool2d_backward(np.ones((1, 1, 1, 1)), (1, 1, 2, 2), 2)[0, 0]
    array([[0.25, 0.25],
           [0.25, 0.25]])
    """
    rows, cols = axes(x_shape, kernel_size, stride, padding, 1, ceil_mode)
    divisor = _divisor(rows, cols, count_include_pad, divisor_override)
    share = grad_output / divisor.astype(grad_output.dtype)
    padded = buffer(x_shape, rows, cols, 0.0, grad_output.dtype)
    for view in taps(padded, rows, cols):
        view += share
    return np.ascontiguousarray(interior(padded, rows, cols))


def _divisor(rows: Axis, cols: Axis, include_pad: bool, override: int | None) -> Array:
    """Count the taps that each output ``(OH, OW)`` divides its sum by, or repeat the override."""
    if override is not None:
        return np.full((rows.output, cols.output), override)

    def counted(axis: Axis) -> Array:
        first = np.arange(axis.output) * axis.stride - axis.before
        end = np.minimum(first + axis.kernel, axis.size + (axis.after if include_pad else 0))
        return end - (first if include_pad else np.maximum(first, 0))

    return np.outer(counted(rows), counted(cols))


def pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    *,
    mode: Literal["max", "avg"] = "max",
    **options: Any,
) -> Any:
    """`max_pool2d` or `avg_pool2d`, by name."""
    poolings: dict[str, Callable[..., Any]] = {"max": max_pool2d, "avg": avg_pool2d}
    return poolings[mode](x, kernel_size, stride, padding, **options)


def pool2d_backward(
    grad_output: Array,
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Padding = 0,
    *,
    mode: Literal["max", "avg"] = "max",
    **options: Any,
) -> Array:
    """Gradient of `pool2d`."""
    if mode == "max":
        return max_pool2d_backward(grad_output, x, kernel_size, stride, padding, **options)
    shape = (x.shape[0], x.shape[1], x.shape[2], x.shape[3])
    return avg_pool2d_backward(grad_output, shape, kernel_size, stride, padding, **options)


def global_avg_pool2d(x: Array) -> Array:
    """Mean of each channel of each image: ``(N, C, H, W)`` to ``(N, C, 1, 1)``."""
    return np.asarray(x.mean(axis=(2, 3), keepdims=True))


def global_avg_pool2d_backward(grad_output: Array, x_shape: tuple[int, int, int, int]) -> Array:
    """Gradient of `global_avg_pool2d`: ``dY / (H W)`` everywhere."""
    share = grad_output / (x_shape[2] * x_shape[3])
    return np.ascontiguousarray(np.broadcast_to(share, x_shape))
