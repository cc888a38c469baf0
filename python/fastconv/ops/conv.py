"""Convolution on arrays: validate, work out the sizes, allocate once, call the kernel."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from fastconv import _call, _dispatch, _shapes
from fastconv import _validation as check
from fastconv._algorithm import takes_winograd
from fastconv._call import Plans, nothing, run
from fastconv._threads import get_num_threads
from fastconv._validation import Array

_conv2d = _dispatch.Kernels("conv2d")
_depthwise = _dispatch.Kernels("depthwise")
_winograd = _dispatch.Kernels("winograd")
_forward, _backward = Plans(), Plans()


class _Forward(NamedTuple):
    """What the arguments of `conv2d` settle: the kernel, its numbers, and the array of the result."""

    kernel: Callable[..., Any]
    numbers: tuple[float, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class _Backward(NamedTuple):
    """What the arguments of `conv2d_backward` settle: three kernels, their numbers, and the arrays of the results."""

    to_input: Callable[..., Any]
    to_weight: Callable[..., Any]
    to_bias: Callable[..., Any]
    numbers: tuple[int, ...]
    wants: tuple[bool, bool, bool]
    shapes: tuple[tuple[int, ...], ...]
    dtype: np.dtype[Any]


class _Way(NamedTuple):
    """The kernels of one way to compute a convolution; all ways are called alike."""

    forward: Callable[..., Any]
    backward_input: Callable[..., Any]
    backward_weight: Callable[..., Any]


def _choose(x: Array, weight: Array, g: _shapes.Geometry, groups: int) -> _Way:
    """Choose the fastest way for these shapes."""
    char = x.dtype.char
    if not x.shape[0]:
        return _Way(nothing, _zeros, _zeros)
    sizes = x.shape[0], x.shape[1], weight.shape[0], g, groups
    if takes_winograd(*sizes):
        return _winograd_way(char)
    # few filters, each of one channel
    module = (_depthwise if weight.shape[1] == 1 and weight.shape[0] < 4 * groups else _conv2d)[char]
    to_weight = _winograd_way(char) if takes_winograd(*sizes, to_weight=True) else module
    return _Way(module.forward, module.backward_input, to_weight.backward_weight)


def _zeros(grad_output: Array, other: Array, target: Array, *numbers: int) -> None:
    """Stand for a kernel where there are no images: the gradients are sums of nothing."""
    target.fill(0)


@cache
def _winograd_way(char: str) -> _Way:
    """Winograd's kernels, and the direct ones for the images in which something is not finite."""
    winograd, direct = _winograd[char], _conv2d[char]

    def forward(x: Array, weight: Array, bias: Array | None, y: Array, *numbers: Any) -> None:
        for n in winograd.forward(x, weight, bias, y, *numbers[2:6], *numbers[-3:]):
            direct.forward(x[n : n + 1], weight, bias, y[n : n + 1], *numbers)

    def backward_input(grad_output: Array, weight: Array, grad_x: Array, *numbers: int) -> None:
        for n in winograd.backward_input(grad_output, weight, grad_x, *numbers[2:6], numbers[-1]):
            direct.backward_input(grad_output[n : n + 1], weight, grad_x[n : n + 1], *numbers)

    def backward_weight(grad_output: Array, x: Array, grad_weight: Array, *numbers: int) -> None:
        if not winograd.backward_weight(grad_output, x, grad_weight, *numbers[2:6], numbers[-1]):
            direct.backward_weight(grad_output, x, grad_weight, *numbers)

    return _Way(forward, backward_input, backward_weight)


def _geometry(
    x_shape: tuple[int, ...], weight: Array, stride: object, padding: object, dilation: object
) -> _shapes.Geometry:
    check.no_empty_axes(weight, "weight", "input channels, kernel rows and kernel columns")
    if weight.shape[0] == 0:
        raise ValueError(f"weight: expected at least 1 output channel; received shape {weight.shape}")
    return _shapes.geometry(x_shape[2], x_shape[3], (weight.shape[2], weight.shape[3]), stride, padding, dilation)


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: object = 1,
    padding: object = 0,
    dilation: object = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
    out: Array | None = None,
) -> Array:
    """Convolve images with filters, add a bias and apply an activation.

    Computes, for output channel k of group g over its input channels c and the taps (r, s),
    ``y[n, k, i, j] = activation(bias[k] + sum(weight[k, c, r, s] * x[n, c, i*stride + r*dilation - top,
    j*stride + s*dilation - left]))`` with zeros outside the image: the cross-correlation that
    deep learning calls convolution (Dumoulin and Visin, "A guide to convolution arithmetic", 2016).

    Parameters
    ----------
    x : ndarray (N, C, H, W), float32 or float64
        Images.
    weight : ndarray (K, C // groups, R, S)
        Filters, of x's dtype.
    bias : ndarray (K,), optional
        Added to each output channel.
    stride, dilation : int or pair of int
        Steps between windows and between the taps of a window.
    padding : int, pair, ((top, bottom), (left, right)), "valid" or "same"
        Rows and columns of zeros around the image. "same" gives ceil(H / stride) rows at every stride; the
        odd one goes after.
    groups : int
        Splits the channels into groups that do not see each other; C for a depthwise convolution.
    activation : {None, "linear", "relu", "leaky_relu", "sigmoid", "tanh"}
        Applied as the result is stored. The slope of leaky_relu is 0.01.
    out : ndarray (N, K, OH, OW), optional
        Where to write the result; must not overlap an input.

    Returns
    -------
    ndarray (N, K, OH, OW)
        OH = floor((H + top + bottom - dilation*(R - 1) - 1) / stride) + 1, and OW likewise.

    Raises
    ------
    TypeError
        An argument of the wrong kind, or arrays of different dtypes.
    ValueError
        Shapes or values that do not fit; the message has the formula and the numbers.
    MemoryError
        No room for the result.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    >>> fc.conv2d(x, np.ones((1, 1, 2, 2), np.float32))
    array([[[[ 8., 12.],
             [20., 24.]]]], dtype=float32)
    """
    plan = _forward.find(x, weight, bias, stride, padding, dilation, groups, activation)
    if plan is None:
        x, weight, bias, plan = _plan_forward(x, weight, bias, stride, padding, dilation, groups, activation)
    kernel, numbers, shape, dtype = plan
    y = _call.empty(shape, dtype) if out is None else check.out(out, shape, dtype, (x, weight, bias))
    run(kernel, x, weight, bias, y, *numbers, get_num_threads())
    return y


def _plan_forward(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: object,
    padding: object,
    dilation: object,
    groups: int,
    activation: str | None,
) -> tuple[Array, Array, Array | None, _Forward]:
    """Check the arguments; return the arrays as the kernels read them, and the plan."""
    x = check.array(x, "x")
    weight = check.array_like(weight, "weight", x, "x")
    if bias is not None:
        bias = check.array_like(bias, "bias", x, "x")
    _shapes.check_kinds(stride, padding, dilation)
    _shapes.index(groups, "groups")
    code, slope = check.activation(activation)
    check.axes(x, "x", 4)
    check.axes(weight, "weight", 4)
    if bias is not None:
        check.axes(bias, "bias", 1)
    g = _geometry(x.shape, weight, stride, padding, dilation)
    check.no_empty_axes(x, "x", "channels, height and width")
    count = check.groups(groups, x.shape[1], weight.shape[0], weight.shape[1])
    if bias is not None and bias.shape[0] != weight.shape[0]:
        raise ValueError(
            f"bias: expected one value for each of {weight.shape[0]} output channels; received {bias.shape[0]}"
        )
    shape = (x.shape[0], weight.shape[0], g.out_height, g.out_width)
    check.size(shape, x.dtype)
    kernel = _choose(x, weight, g, count).forward
    numbers = (*g.stride, g.padding[0][0], g.padding[1][0], *g.dilation, count, code, slope)
    plan = _Forward(kernel, numbers, shape, x.dtype)
    _forward.keep(plan, x, weight, bias, stride, padding, dilation, groups, activation)
    return x, weight, bias, plan


def conv2d_backward(
    grad_output: Array,
    x: Array,
    weight: Array,
    stride: object = 1,
    padding: object = 0,
    dilation: object = 1,
    groups: int = 1,
    *,
    output_mask: tuple[bool, bool, bool] = (True, True, True),
    out: tuple[Array | None, Array | None, Array | None] = (None, None, None),
) -> tuple[Array | None, Array | None, Array | None]:
    """Differentiate `conv2d` (without its activation) with respect to x, weight and bias.

    Parameters
    ----------
    grad_output : ndarray (N, K, OH, OW)
        Gradient of a scalar with respect to the result of ``conv2d(x, weight, ...)``.
    x : ndarray (N, C, H, W)
        The images of the forward call.
    weight : ndarray (K, C // groups, R, S)
        The filters of the forward call.
    stride, padding, dilation, groups
        As in the forward call.
    output_mask : three bool
        Which of the three gradients to compute.
    out : three ndarray or None
        Where to write each gradient.

    Returns
    -------
    grad_x : ndarray (N, C, H, W) or None
        The transposed convolution of `grad_output`.
    grad_weight : ndarray (K, C // groups, R, S) or None
        The correlation of `grad_output` with `x`, summed over images.
    grad_bias : ndarray (K,) or None
        The sum of `grad_output` over images and pixels.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `conv2d`; `grad_output` must have the shape that the forward call returned.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    >>> weight = np.ones((1, 1, 2, 2), np.float32)
    >>> grad_x, grad_weight, grad_bias = fc.conv2d_backward(np.ones((1, 1, 2, 2), np.float32), x, weight)
    >>> grad_x
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]], dtype=float32)
    >>> grad_bias
    array([4.], dtype=float32)
    """
    plan = _backward.find(grad_output, x, weight, stride, padding, dilation, groups, output_mask)
    if plan is None:
        grad_output, x, weight, plan = _plan_backward(
            grad_output, x, weight, stride, padding, dilation, groups, output_mask
        )
    to_input, to_weight, to_bias, numbers, wants, shapes, dtype = plan
    grad_x, grad_weight, grad_bias = check.outs(out, wants, shapes, dtype, (grad_output, x, weight))
    threads = get_num_threads()
    if grad_x is not None:
        run(to_input, grad_output, weight, grad_x, *numbers, threads)
    if grad_weight is not None:
        run(to_weight, grad_output, x, grad_weight, *numbers, threads)
    if grad_bias is not None:
        run(to_bias, grad_output, grad_bias, threads)
    return grad_x, grad_weight, grad_bias


def _plan_backward(
    grad_output: Array,
    x: Array,
    weight: Array,
    stride: object,
    padding: object,
    dilation: object,
    groups: int,
    output_mask: tuple[bool, bool, bool],
) -> tuple[Array, Array, Array, _Backward]:
    """Check the arguments; return the arrays as the kernels read them, and the plan."""
    x = check.array(x, "x")
    weight = check.array_like(weight, "weight", x, "x")
    grad_output = check.array_like(grad_output, "grad_output", x, "x")
    _shapes.check_kinds(stride, padding, dilation)
    _shapes.index(groups, "groups")
    wants = check.mask(output_mask)
    check.axes(x, "x", 4)
    check.axes(weight, "weight", 4)
    g = _geometry(x.shape, weight, stride, padding, dilation)
    check.no_empty_axes(x, "x", "channels, height and width")
    count = check.groups(groups, x.shape[1], weight.shape[0], weight.shape[1])
    shape = (x.shape[0], weight.shape[0], g.out_height, g.out_width)
    if grad_output.shape != shape:
        raise ValueError(
            f"grad_output: expected shape {shape}, that of the forward result; received {grad_output.shape}"
        )
    way = _choose(x, weight, g, count)
    numbers = (*g.stride, g.padding[0][0], g.padding[1][0], *g.dilation, count)
    shapes = (x.shape, weight.shape, (weight.shape[0],))
    to_bias = _conv2d[x.dtype.char].backward_bias
    plan = _Backward(way.backward_input, way.backward_weight, to_bias, numbers, wants, shapes, x.dtype)
    _backward.keep(plan, grad_output, x, weight, stride, padding, dilation, groups, output_mask)
    return grad_output, x, weight, plan
