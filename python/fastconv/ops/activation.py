"""Elementwise activations and softmax on arrays, each followed by its gradient.

Every gradient is written in the *output* of the activation, which a network has at hand anyway.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastconv import _call, _dispatch
from fastconv import _validation as check
from fastconv._call import Plans, not_a_kernel, run
from fastconv._threads import get_num_threads
from fastconv._validation import Array

_activation = _dispatch.Kernels("activation")


_forwards, _backwards = Plans(), Plans()


class _Plan(NamedTuple):
    """What the arguments of an activation settle: the kernel, its activation, and the array of the result."""

    kernel: Callable[..., Any]
    code: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def _forward(x: Array, name: str, slope: float, out: Array | None) -> Array:
    plan = _forwards.find(x, name)
    if plan is None:
        x = check.array(x, "x")
        plan = _Plan(_activation[x.dtype.char].forward, check.ACTIVATIONS[name][0], x.shape, x.dtype)
        _forwards.keep(plan, x, name)
    kernel, code, shape, dtype = plan
    y = _call.empty(shape, dtype) if out is None else check.out(out, shape, dtype, (x,), in_place=True)
    run(kernel, x, y, code, slope, get_num_threads())
    return y


def _backward(grad_output: Array, output: Array, name: str, slope: float, out: Array | None) -> Array:
    plan = _backwards.find(grad_output, output, name)
    if plan is None:
        output = check.array(output, "output")
        grad_output = check.shaped_like(grad_output, "grad_output", output.shape, "that of output", output, "output")
        plan = _Plan(_activation[output.dtype.char].backward, check.ACTIVATIONS[name][0], output.shape, output.dtype)
        _backwards.keep(plan, grad_output, output, name)
    kernel, code, shape, dtype = plan
    inputs = (grad_output, output)
    grad_x = _call.empty(shape, dtype) if out is None else check.out(out, shape, dtype, inputs, in_place=True)
    run(kernel, grad_output, output, grad_x, code, slope, get_num_threads())
    return grad_x


def relu(x: Array, *, out: Array | None = None) -> Array:
    """Compute max(x, 0).

    Parameters
    ----------
    x : ndarray, float32 or float64
        Any shape. NaN stays NaN.
    out : ndarray, optional
        Where to write the result; may be x itself.

    Returns
    -------
    ndarray
        Of x's shape and dtype.

    Raises
    ------
    TypeError, ValueError
        An argument of the wrong kind, or an `out` that does not fit.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return _forward(x, "relu", 0.0, out)


def relu_backward(grad_output: Array, output: Array, *, out: Array | None = None) -> Array:
    """Differentiate `relu`: `grad_output` where the output is positive, else 0.

    Parameters
    ----------
    grad_output : ndarray
        Gradient with respect to the output.
    output : ndarray
        What ``relu(x)`` returned.
    out : ndarray, optional
        Where to write the result; may be `grad_output` itself.

    Returns
    -------
    ndarray
        Gradient with respect to x.

    Raises
    ------
    TypeError, ValueError
        As `relu`, and where the shapes differ.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.relu_backward(np.array([5.0, 5.0]), np.array([0.0, 2.0]))
    array([0., 5.])
    """
    return _backward(grad_output, output, "relu", 0.0, out)


def leaky_relu(x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Array:
    """Compute x where it is positive, else ``negative_slope * x`` (Maas et al. 2013).

    Parameters
    ----------
    x : ndarray, float32 or float64
        Any shape.
    negative_slope : float
        0.01 as in PyTorch; Keras's default is 0.2.
    out : ndarray, optional
        Where to write the result; may be x itself.

    Returns
    -------
    ndarray
        Of x's shape and dtype.

    Raises
    ------
    TypeError, ValueError
        As `relu`.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.leaky_relu(np.array([-1.0, 2.0]))
    array([-0.01,  2.  ])
    """
    return _forward(x, "leaky_relu", check.real(negative_slope, "negative_slope"), out)


def leaky_relu_backward(
    grad_output: Array, output: Array, negative_slope: float = 0.01, *, out: Array | None = None
) -> Array:
    """Differentiate `leaky_relu`, for a positive slope, from its output.

    Parameters
    ----------
    grad_output : ndarray
        Gradient with respect to the output.
    output : ndarray
        What ``leaky_relu(x, negative_slope)`` returned.
    negative_slope : float
        As in the forward call; not negative, or the output would not tell the sign of x.
    out : ndarray, optional
        Where to write the result; may be `grad_output` itself.

    Returns
    -------
    ndarray
        Gradient with respect to x.

    Raises
    ------
    TypeError, ValueError
        As `relu_backward`, and for a negative slope.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.leaky_relu_backward(np.array([1.0, 1.0]), np.array([-0.01, 2.0]))
    array([0.01, 1.  ])
    """
    slope = check.real(negative_slope, "negative_slope")
    if slope < 0:
        raise ValueError(
            f"negative_slope: expected at least 0, because the gradient is found from the output; received {slope}"
        )
    return _backward(grad_output, output, "leaky_relu", slope, out)


def sigmoid(x: Array, *, out: Array | None = None) -> Array:
    """Compute 1 / (1 + exp(-x)), within 4 ulp over the whole range.

    Parameters
    ----------
    x : ndarray, float32 or float64
        Any shape.
    out : ndarray, optional
        Where to write the result; may be x itself.

    Returns
    -------
    ndarray
        Of x's shape and dtype.

    Raises
    ------
    TypeError, ValueError
        As `relu`.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.sigmoid(np.array([0.0, 3.0])).round(8)
    array([0.5       , 0.95257413])
    """
    return _forward(x, "sigmoid", 0.0, out)


def sigmoid_backward(grad_output: Array, output: Array, *, out: Array | None = None) -> Array:
    """Differentiate `sigmoid`: ``grad_output * output * (1 - output)``.

    Parameters
    ----------
    grad_output : ndarray
        Gradient with respect to the output.
    output : ndarray
        What ``sigmoid(x)`` returned.
    out : ndarray, optional
        Where to write the result; may be `grad_output` itself.

    Returns
    -------
    ndarray
        Gradient with respect to x.

    Raises
    ------
    TypeError, ValueError
        As `relu_backward`.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.sigmoid_backward(np.array([1.0]), np.array([0.5]))
    array([0.25])
    """
    return _backward(grad_output, output, "sigmoid", 0.0, out)


def tanh(x: Array, *, out: Array | None = None) -> Array:
    """Compute the hyperbolic tangent, within 4 ulp over the whole range.

    Parameters
    ----------
    x : ndarray, float32 or float64
        Any shape.
    out : ndarray, optional
        Where to write the result; may be x itself.

    Returns
    -------
    ndarray
        Of x's shape and dtype.

    Raises
    ------
    TypeError, ValueError
        As `relu`.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.tanh(np.array([0.0, 1.0])).round(8)
    array([0.        , 0.76159416])
    """
    return _forward(x, "tanh", 0.0, out)


def tanh_backward(grad_output: Array, output: Array, *, out: Array | None = None) -> Array:
    """Differentiate `tanh`: ``grad_output * (1 - output**2)``.

    Parameters
    ----------
    grad_output : ndarray
        Gradient with respect to the output.
    output : ndarray
        What ``tanh(x)`` returned.
    out : ndarray, optional
        Where to write the result; may be `grad_output` itself.

    Returns
    -------
    ndarray
        Gradient with respect to x.

    Raises
    ------
    TypeError, ValueError
        As `relu_backward`.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.tanh_backward(np.array([1.0]), np.array([0.5]))
    array([0.75])
    """
    return _backward(grad_output, output, "tanh", 0.0, out)


def activation_backward(
    grad_output: Array, output: Array, activation: str | None, *, out: Array | None = None
) -> Array:
    """Differentiate a fused activation by its name.

    Parameters
    ----------
    grad_output : ndarray
        Gradient with respect to the activated output.
    output : ndarray
        What the operator with that `activation` returned.
    activation : {None, "linear", "relu", "leaky_relu", "sigmoid", "tanh"}
        As in the forward call.
    out : ndarray, optional
        Where to write the result; may be `grad_output` itself.

    Returns
    -------
    ndarray
        Gradient before the activation; for the linear one, `grad_output` itself.

    Raises
    ------
    TypeError, ValueError
        As `relu_backward`, and for an unknown name.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.ops import activation_backward
    >>> activation_backward(np.array([5.0, 5.0]), np.array([0.0, 2.0]), "relu")
    array([0., 5.])
    """
    code, slope = check.activation(activation)
    if code == 0:
        return grad_output
    assert activation is not None  # the linear code is the only one that None has
    return _backward(grad_output, output, activation, slope, out)


def _as_rows(x: Array, axis: int) -> Array:
    """Return x as a matrix whose rows run along `axis`: a view where that is the last one."""
    if axis == x.ndim - 1:
        return x if x.ndim == 2 else x.reshape(x.size // x.shape[axis], x.shape[axis])
    moved = np.moveaxis(x, axis, -1)
    rows = _call.empty((x.size // x.shape[axis], x.shape[axis]), x.dtype)
    rows.reshape(moved.shape)[...] = moved
    not_a_kernel()
    return rows


def _rows_for(y: Array, rows: Array, axis: int) -> Array:
    """Return where a kernel writes the rows of y: y itself where they run along its last axis."""
    return _as_rows(y, axis) if axis == y.ndim - 1 else _call.empty(rows.shape, rows.dtype)


def _from_rows(rows: Array, axis: int, y: Array) -> None:
    """Bring rows that are not in y there."""
    if axis != y.ndim - 1:
        shape = np.moveaxis(y, axis, -1).shape
        y[...] = np.moveaxis(rows.reshape(shape), -1, axis)
        not_a_kernel()


def _axis(axis: object, x: Array) -> int:
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise TypeError(f"axis: expected an int; received {axis!r} of type {type(axis).__name__}")
    number = operator.index(axis)
    if not -x.ndim <= number < x.ndim:
        raise ValueError(f"axis: expected {-x.ndim} to {x.ndim - 1} for shape {x.shape}; received {number}")
    if x.shape[number] == 0:
        raise ValueError(f"x: expected at least one element along axis {number}; received shape {x.shape}")
    return number % x.ndim


def softmax(x: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """Compute exp(x - max x) / sum(exp(x - max x)) along an axis.

    Parameters
    ----------
    x : ndarray, float32 or float64
        Any shape of at least one axis.
    axis : int
        Along which the result sums to 1.
    out : ndarray, optional
        Where to write the result; may be x itself.

    Returns
    -------
    ndarray
        Of x's shape and dtype.

    Raises
    ------
    TypeError, ValueError
        As `relu`, and for an axis out of range or empty.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.softmax(np.array([3.2, 1.3, 0.2, 0.8])).round(8)
    array([0.77514955, 0.11593805, 0.03859242, 0.07031998])
    """
    x = check.array(x, "x")
    last = _axis(axis, x)
    y = _call.empty(x.shape, x.dtype) if out is None else check.out(out, x.shape, x.dtype, (x,), in_place=True)
    rows = _as_rows(x, last)
    target = _rows_for(y, rows, last)
    run(_activation[x.dtype.char].softmax_forward, rows, target, get_num_threads())
    _from_rows(target, last, y)
    return y


def softmax_backward(grad_output: Array, output: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """Differentiate `softmax`: ``output * (grad_output - sum(grad_output * output))`` along the axis.

    Parameters
    ----------
    grad_output : ndarray
        Gradient with respect to the output.
    output : ndarray
        What ``softmax(x, axis)`` returned.
    axis : int
        As in the forward call.
    out : ndarray, optional
        Where to write the result; may be `grad_output` itself.

    Returns
    -------
    ndarray
        Gradient with respect to x.

    Raises
    ------
    TypeError, ValueError
        As `softmax`, and where the shapes differ.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.softmax_backward(np.array([1.0, 0.0]), np.array([0.5, 0.5]))
    array([ 0.25, -0.25])
    """
    output = check.array(output, "output")
    grad_output = check.shaped_like(grad_output, "grad_output", output.shape, "that of output", output, "output")
    last = _axis(axis, output)
    shape, dtype = output.shape, output.dtype
    inputs = (grad_output, output)
    grad_x = _call.empty(shape, dtype) if out is None else check.out(out, shape, dtype, inputs, in_place=True)
    kernel = _activation[dtype.char].softmax_backward
    if last == 1 and len(shape) == 2:
        run(kernel, grad_output, output, grad_x, get_num_threads())
        return grad_x
    grad_rows, rows = _as_rows(grad_output, last), _as_rows(output, last)
    target = _rows_for(grad_x, rows, last)
    run(kernel, grad_rows, rows, target, get_num_threads())
    _from_rows(target, last, grad_x)
    return grad_x
