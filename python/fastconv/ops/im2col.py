"""im2col, the matrix of all convolution windows, and its adjoint col2im."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastconv import _call, _dispatch, _shapes
from fastconv import _validation as check
from fastconv._call import Plans, run
from fastconv._threads import get_num_threads
from fastconv._validation import Array

_im2col = _dispatch.Kernels("im2col")
_to_columns, _to_images = Plans(), Plans()


class _Plan(NamedTuple):
    """What the arguments settle: the kernel, its numbers, and the array of the result."""

    kernel: Callable[..., Any]
    numbers: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def im2col(x: Array, kernel_size: object, stride: object = 1, padding: object = 0, dilation: object = 1) -> Array:
    """Lay every window of every image out as a column (PyTorch's ``unfold``).

    Parameters
    ----------
    x : ndarray (N, C, H, W)
        Images, float32 or float64.
    kernel_size : int or pair of int
        Rows R and columns S of the window.
    stride, padding, dilation
        As in `conv2d`.

    Returns
    -------
    ndarray (N, C*R*S, OH*OW)
        One column for each output pixel: ``weight.reshape(K, -1) @ columns`` is the convolution.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `conv2d`.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.im2col(np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3), 2)[0]
    array([[0., 1., 3., 4.],
           [1., 2., 4., 5.],
           [3., 4., 6., 7.],
           [4., 5., 7., 8.]], dtype=float32)
    """
    plan = _to_columns.find(x, kernel_size, stride, padding, dilation)
    if plan is None:
        x, plan = _plan_columns(x, kernel_size, stride, padding, dilation)
    kernel, numbers, shape, dtype = plan
    columns = _call.empty(shape, dtype)
    run(kernel, x, columns, *numbers, get_num_threads())
    return columns


def _numbers(g: _shapes.Geometry) -> tuple[int, ...]:
    return g.out_height, g.out_width, *g.kernel, *g.stride, g.padding[0][0], g.padding[1][0], *g.dilation


def _plan_columns(
    x: Array, kernel_size: object, stride: object, padding: object, dilation: object
) -> tuple[Array, _Plan]:
    """Check the arguments; return the array as the kernel reads it, and the plan."""
    x = check.array(x, "x")
    _shapes.check_kinds(stride, padding, dilation, kernel_size)
    check.axes(x, "x", 4)
    g = _shapes.geometry(x.shape[2], x.shape[3], kernel_size, stride, padding, dilation)
    check.no_empty_axes(x, "x", "channels, height and width")
    shape = (x.shape[0], x.shape[1] * g.kernel[0] * g.kernel[1], g.out_height * g.out_width)
    check.size(shape, x.dtype)
    plan = _Plan(_im2col[x.dtype.char].im2col, _numbers(g), shape, x.dtype)
    _to_columns.keep(plan, x, kernel_size, stride, padding, dilation)
    return x, plan


def col2im(
    columns: Array,
    output_size: object,
    kernel_size: object,
    stride: object = 1,
    padding: object = 0,
    dilation: object = 1,
) -> Array:
    """Add every column back to the window it came from: the adjoint of `im2col` (PyTorch's ``fold``).

    Parameters
    ----------
    columns : ndarray (N, C*R*S, OH*OW)
        As `im2col` gives, float32 or float64.
    output_size : int or pair of int
        Height H and width W of the images.
    kernel_size, stride, padding, dilation
        As in `im2col`.

    Returns
    -------
    ndarray (N, C, H, W)
        Overlapping windows are added.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `conv2d`; the axes of `columns` must fit the other arguments.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.col2im(np.ones((1, 4, 4), np.float32), 3, 2)[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]], dtype=float32)
    """
    plan = _to_images.find(columns, output_size, kernel_size, stride, padding, dilation)
    if plan is None:
        columns, plan = _plan_images(columns, output_size, kernel_size, stride, padding, dilation)
    kernel, numbers, shape, dtype = plan
    x = _call.empty(shape, dtype)
    run(kernel, columns, x, *numbers, get_num_threads())
    return x


def _plan_images(
    columns: Array, output_size: object, kernel_size: object, stride: object, padding: object, dilation: object
) -> tuple[Array, _Plan]:
    """Check the arguments; return the array as the kernel reads it, and the plan."""
    columns = check.array(columns, "columns")
    _shapes.plain(output_size, "output_size")
    _shapes.check_kinds(stride, padding, dilation, kernel_size)
    check.axes(columns, "columns", 3)
    height, width = _shapes.pair(output_size, "output_size", 1)
    g = _shapes.geometry(height, width, kernel_size, stride, padding, dilation)
    taps = g.kernel[0] * g.kernel[1]
    if columns.shape[1] % taps or columns.shape[1] == 0:
        raise ValueError(
            f"columns: expected axis 1 to be a multiple of the {taps} taps of a {g.kernel[0]}x{g.kernel[1]} "
            f"kernel; received shape {columns.shape}"
        )
    if columns.shape[2] != g.out_height * g.out_width:
        raise ValueError(
            f"columns: expected axis 2 to be {g.out_height} * {g.out_width} = {g.out_height * g.out_width} "
            f"windows; received shape {columns.shape}"
        )
    shape = (columns.shape[0], columns.shape[1] // taps, height, width)
    check.size(shape, columns.dtype)
    plan = _Plan(_im2col[columns.dtype.char].col2im, _numbers(g), shape, columns.dtype)
    _to_images.keep(plan, columns, output_size, kernel_size, stride, padding, dilation)
    return columns, plan
