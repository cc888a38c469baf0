"""Activations; each backward takes the derivative from the *output* of its forward."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from ._windows import Array

Activation: TypeAlias = str | None


def into(out: Array | None, result: Array, like: Array) -> Array:
    """Return `result`, or `out` holding it; an array of the dtype of `like` where NumPy makes a scalar of one."""
    if out is None:
        return np.asarray(result, like.dtype.newbyteorder("="))
    out[...] = result
    return out


def relu(x: Array, *, out: Array | None = None) -> Array:
    """``max(x, 0)``; NaN stays NaN."""
    return into(out, np.maximum(x, 0), x)


def relu_backward(grad_output: Array, output: Array, *, out: Array | None = None) -> Array:
    """``dY`` where the output is positive (or NaN), else 0."""
    return into(out, np.where(output <= 0, 0, grad_output), grad_output)


def leaky_relu(x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Array:
    """``x`` where positive, else ``negative_slope * x``."""
    return into(out, np.where(x > 0, x, x * negative_slope), x)


def leaky_relu_backward(
    grad_output: Array, output: Array, negative_slope: float = 0.01, *, out: Array | None = None
) -> Array:
    """``dY`` where the output is positive, else ``negative_slope * dY``."""
    return into(out, np.where(output > 0, grad_output, grad_output * negative_slope), grad_output)


def sigmoid(x: Array, *, out: Array | None = None) -> Array:
    """``1 / (1 + exp(-x))``, written so that no exponential overflows.

    Examples
    --------
    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    e = np.exp(-np.abs(x))
    return into(out, np.where(x < 0, e, 1) / (1 + e), x)


def sigmoid_backward(grad_output: Array, output: Array, *, out: Array | None = None) -> Array:
    """``dY * y * (1 - y)``."""
    return into(out, grad_output * output * (1 - output), grad_output)


def tanh(x: Array, *, out: Array | None = None) -> Array:
    """Hyperbolic tangent."""
    return into(out, np.tanh(x), x)


def tanh_backward(grad_output: Array, output: Array, *, out: Array | None = None) -> Array:
    """``dY * (1 - y) * (1 + y)``."""
    return into(out, grad_output * (1 - output) * (1 + output), grad_output)


def _linear(x: Array) -> Array:
    return x


def _linear_backward(grad_output: Array, output: Array, *, out: Array | None = None) -> Array:
    return into(out, grad_output, grad_output)


class ActivationPair(NamedTuple):
    """A function and its derivative as a function of its output."""

    forward: Callable[[Array], Array]
    backward: Callable[..., Array]


ACTIVATIONS: dict[Activation, ActivationPair] = {
    None: ActivationPair(_linear, _linear_backward),
    "linear": ActivationPair(_linear, _linear_backward),
    "relu": ActivationPair(relu, relu_backward),
    "leaky_relu": ActivationPair(leaky_relu, leaky_relu_backward),
    "sigmoid": ActivationPair(sigmoid, sigmoid_backward),
    "tanh": ActivationPair(tanh, tanh_backward),
}


def activation_backward(
    grad_output: Array, output: Array, activation: Activation, *, out: Array | None = None
) -> Array:
    """Gradient of the activation of that name, taken from its output."""
    return ACTIVATIONS[activation].backward(grad_output, output, out=out)
