"""Windows: their sizes and two adjoint pairs that reach their pixels.

``im2col`` gathers windows into columns, which turns a convolution into a matrix product, and
``col2im`` adds columns back. ``taps`` gives one strided view per kernel tap, which turns pooling
into a loop over taps, never over pixels; adding into those views is its adjoint.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Pair: TypeAlias = int | tuple[int, int]
Padding: TypeAlias = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] | str


class Axis(NamedTuple):
    """Windows along one axis: output ``o``, tap ``k`` reads ``o*stride + k*dilation - before``."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    output: int

    @property
    def span(self) -> int:
        """Pixels from a window's first tap to its last, both counted."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def overrun(self) -> int:
        """Pixels past the image that the last window reads."""
        return max(0, (self.output - 1) * self.stride + self.span - self.size - self.before)


def axes(
    size: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair | None,
    padding: Padding,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> tuple[Axis, Axis]:
    """Output sizes: ``floor((H + before + after - dilation*(R - 1) - 1) / stride) + 1``.

    ``ceil_mode`` rounds up instead, and then drops a last window that would start past the image
    and the padding before it. ``"same"`` pads for ``ceil(H / stride)`` outputs, odd pixel after.
    """
    kernels = np.broadcast_to(kernel_size, 2).tolist()
    strides = kernels if stride is None else np.broadcast_to(stride, 2).tolist()
    dilations = np.broadcast_to(dilation, 2).tolist()
    axes = []
    for i, (n, k, s, d) in enumerate(zip(size[-2:], kernels, strides, dilations, strict=True)):
        span = d * (k - 1) + 1
        if padding == "same":
            total = max(0, (-(-n // s) - 1) * s + span - n)
            before, after = total // 2, total - total // 2
        elif padding == "valid":
            before = after = 0
        else:
            pairs = np.asarray(padding)
            pairs = pairs[:, None] if pairs.ndim == 1 else pairs
            before, after = np.broadcast_to(pairs, (2, 2))[i].tolist()
        room = n + before + after - span
        output = (-(-room // s) if ceil_mode else room // s) + 1
        if ceil_mode and (output - 1) * s >= n + before:
            output -= 1
        axes.append(Axis(n, k, s, d, before, after, output))
    return axes[0], axes[1]


def buffer(shape: tuple[int, ...], rows: Axis, columns: Axis, value: float, dtype: Any) -> Array:
    """Images of that shape and the padding around them that the windows reach, all `value`."""
    height = rows.before + rows.size + rows.overrun
    width = columns.before + columns.size + columns.overrun
    return np.full((*shape[:-2], height, width), value, dtype)


def pad(x: Array, rows: Axis, columns: Axis, value: float) -> Array:
    """Pad the last two axes of `x` with `value`, as far as the windows reach."""
    if rows.before == rows.overrun == columns.before == columns.overrun == 0:
        return x
    padded = buffer(x.shape, rows, columns, value, x.dtype)
    interior(padded, rows, columns)[...] = x
    return padded


def interior(padded: Array, rows: Axis, columns: Axis) -> Array:
    """View of the image inside the padded one."""
    return padded[
        ...,
        rows.before : rows.before + rows.size,
        columns.before : columns.before + columns.size,
    ]


def taps(padded: Array, rows: Axis, columns: Axis) -> Iterator[Array]:
    """For each kernel tap, row by row, a view ``(..., OH, OW)`` of the pixels it reads."""
    for r in range(0, rows.span, rows.dilation):
        for s in range(0, columns.span, columns.dilation):
            yield padded[
                ...,
                r : r + (rows.output - 1) * rows.stride + 1 : rows.stride,
                s : s + (columns.output - 1) * columns.stride + 1 : columns.stride,
            ]


def im2col(x: Array, kernel_size: Pair, stride: Pair = 1, padding: Padding = 0, dilation: Pair = 1) -> Array:
    """Gather windows: ``columns[n, (c, r, s), (i, j)] = padded[n, c, i*sh + r*dh, j*sw + s*dw]``.

    Examples
    --------
    >>> im2col(np.arange(9.0).reshape(1, 1, 3, 3), 2)[0, :, 0]
    array([0., 1., 3., 4.])
    """
    rows, cols = axes(x.shape, kernel_size, stride, padding, dilation)
    windows = sliding_window_view(pad(x, rows, cols, 0.0), (rows.span, cols.span), axis=(2, 3))
    windows = windows[
        :,
        :,
        : (rows.output - 1) * rows.stride + 1 : rows.stride,
        : (cols.output - 1) * cols.stride + 1 : cols.stride,
        :: rows.dilation,
        :: cols.dilation,
    ]
    shape = (x.shape[0], x.shape[1] * rows.kernel * cols.kernel, rows.output * cols.output)
    return np.ascontiguousarray(windows.transpose(0, 1, 4, 5, 2, 3)).reshape(shape)


def col2im(
    columns: Array,
    output_size: Pair,
    kernel_size: Pair,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
) -> Array:
    """Adjoint of `im2col`: add each column's entries to the pixels they were read from.

    Examples
    --------
    >>> col2im(np.ones((1, 4, 4)), (3, 3), 2)[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    size = tuple(np.broadcast_to(output_size, 2).tolist())
    rows, cols = axes(size, kernel_size, stride, padding, dilation)
    count = rows.kernel * cols.kernel
    images, channels = columns.shape[0], columns.shape[1] // count
    entries = columns.reshape(images, channels, count, rows.output, cols.output)
    padded = buffer((images, channels, *size), rows, cols, 0.0, columns.dtype)
    for t, view in enumerate(taps(padded, rows, cols)):
        view += entries[:, :, t]
    return np.ascontiguousarray(interior(padded, rows, cols))
