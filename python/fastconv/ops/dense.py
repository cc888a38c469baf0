"""The dense layer on arrays: a matrix product with bias and activation, and its gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastconv import _call, _dispatch
from fastconv import _validation as check
from fastconv._call import Plans, nothing, run
from fastconv._threads import get_num_threads
from fastconv._validation import Array

_dense = _dispatch.Kernels("dense")
_forward, _backward = Plans(), Plans()


class _Forward(NamedTuple):
    """What the arguments of `dense` settle: the kernel, its activation, and the array of the result."""

    kernel: Callable[..., Any]
    code: int
    slope: float
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class _Backward(NamedTuple):
    """What the arguments of `dense_backward` settle: three kernels and the arrays of the results."""

    to_input: Callable[..., Any]
    to_weight: Callable[..., Any]
    to_bias: Callable[..., Any]
    wants: tuple[bool, bool, bool]
    shapes: tuple[tuple[int, ...], ...]
    dtype: np.dtype[Any]


def dense(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    activation: str | None = None,
    out: Array | None = None,
) -> Array:
    """Compute ``activation(x @ weight.T + bias)``.

    Parameters
    ----------
    x : ndarray (N, in_features), float32 or float64
        One sample a row.
    weight : ndarray (out_features, in_features)
        One output feature a row, as in PyTorch; the transpose of Keras's kernel.
    bias : ndarray (out_features,), optional
        Added to each row of the result.
    activation : {None, "linear", "relu", "leaky_relu", "sigmoid", "tanh"}
        Applied as the result is stored.
    out : ndarray (N, out_features), optional
        Where to write the result; must not overlap an input.

    Returns
    -------
    ndarray (N, out_features)
        With in_features = 0, the bias alone.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `conv2d`.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x = np.array([[1, -2]], np.float32)
    >>> fc.dense(x, np.eye(2, dtype=np.float32), np.ones(2, np.float32), activation="relu")
    array([[2., 0.]], dtype=float32)
    """
    plan = _forward.find(x, weight, bias, activation)
    if plan is None:
        x, weight, bias, plan = _plan_forward(x, weight, bias, activation)
    kernel, code, slope, shape, dtype = plan
    y = _call.empty(shape, dtype) if out is None else check.out(out, shape, dtype, (x, weight, bias))
    run(kernel, x, weight, bias, y, code, slope, get_num_threads())
    return y


def _plan_forward(
    x: Array, weight: Array, bias: Array | None, activation: str | None
) -> tuple[Array, Array, Array | None, _Forward]:
    """Check the arguments; return the arrays as the kernels read them, and the plan."""
    x = check.array(x, "x")
    weight = check.array_like(weight, "weight", x, "x")
    if bias is not None:
        bias = check.array_like(bias, "bias", x, "x")
    code, slope = check.activation(activation)
    if bias is not None:
        check.axes(bias, "bias", 1)
    _check_weight(x, weight)
    if bias is not None and bias.shape[0] != weight.shape[0]:
        raise ValueError(
            f"bias: expected one value for each of {weight.shape[0]} output features; received {bias.shape[0]}"
        )
    shape = (x.shape[0], weight.shape[0])
    check.size(shape, x.dtype)
    kernel = _dense[x.dtype.char].forward if 0 not in shape else nothing
    plan = _Forward(kernel, code, slope, shape, x.dtype)
    _forward.keep(plan, x, weight, bias, activation)
    return x, weight, bias, plan


def _check_weight(x: Array, weight: Array) -> None:
    check.axes(x, "x", 2)
    check.axes(weight, "weight", 2)
    if weight.shape[1] != x.shape[1]:
        raise ValueError(
            f"weight: expected shape (out_features, {x.shape[1]}), x having {x.shape[1]} features; "
            f"received {weight.shape}"
        )


def dense_backward(
    grad_output: Array,
    x: Array,
    weight: Array,
    *,
    output_mask: tuple[bool, bool, bool] = (True, True, True),
    out: tuple[Array | None, Array | None, Array | None] = (None, None, None),
) -> tuple[Array | None, Array | None, Array | None]:
    """Differentiate `dense` (without its activation) with respect to x, weight and bias.

    Parameters
    ----------
    grad_output : ndarray (N, out_features)
        Gradient of a scalar with respect to the result of ``dense(x, weight, bias)``.
    x : ndarray (N, in_features)
        The input of the forward call.
    weight : ndarray (out_features, in_features)
        The weight of the forward call.
    output_mask : three bool
        Which of the three gradients to compute.
    out : three ndarray or None
        Where to write each gradient.

    Returns
    -------
    grad_x : ndarray (N, in_features) or None
        ``grad_output @ weight``.
    grad_weight : ndarray (out_features, in_features) or None
        ``grad_output.T @ x``.
    grad_bias : ndarray (out_features,) or None
        The sum of `grad_output` over its rows.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `dense`; `grad_output` must have the shape that the forward call returned.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x, weight = np.array([[1, 2]], np.float32), np.array([[3, 4]], np.float32)
    >>> fc.dense_backward(np.ones((1, 1), np.float32), x, weight)
    (array([[3., 4.]], dtype=float32), array([[1., 2.]], dtype=float32), array([1.], dtype=float32))
    """
    plan = _backward.find(grad_output, x, weight, output_mask)
    if plan is None:
        grad_output, x, weight, plan = _plan_backward(grad_output, x, weight, output_mask)
    to_input, to_weight, to_bias, wants, shapes, dtype = plan
    grad_x, grad_weight, grad_bias = check.outs(out, wants, shapes, dtype, (grad_output, x, weight))
    threads = get_num_threads()
    if grad_x is not None:
        run(to_input, grad_output, weight, grad_x, threads)
    if grad_weight is not None:
        run(to_weight, grad_output, x, grad_weight, threads)
    if grad_bias is not None:
        run(to_bias, grad_output, grad_bias)
    return grad_x, grad_weight, grad_bias


def _plan_backward(
    grad_output: Array, x: Array, weight: Array, output_mask: tuple[bool, bool, bool]
) -> tuple[Array, Array, Array, _Backward]:
    """Check the arguments; return the arrays as the kernels read them, and the plan."""
    x = check.array(x, "x")
    weight = check.array_like(weight, "weight", x, "x")
    grad_output = check.array_like(grad_output, "grad_output", x, "x")
    wants = check.mask(output_mask)
    _check_weight(x, weight)
    shape = (x.shape[0], weight.shape[0])
    if grad_output.shape != shape:
        raise ValueError(
            f"grad_output: expected shape {shape}, that of the forward result; received {grad_output.shape}"
        )
    kernels = _dense[x.dtype.char]
    plan = _Backward(
        kernels.backward_input if x.size else nothing,
        kernels.backward_weight if weight.size else nothing,
        kernels.backward_bias,
        wants,
        (x.shape, weight.shape, (weight.shape[0],)),
        x.dtype,
    )
    _backward.keep(plan, grad_output, x, weight, output_mask)
    return grad_output, x, weight, plan
