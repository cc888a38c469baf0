"""Gradients checked by central differences.

For a pass ``y = f(x)`` and a random ``v``, the derivative of ``sum(v * y)`` in each entry of x is
``(f(x + eps) - f(x - eps)) / (2 eps)``, contracted with v. In float64 its error is near 1e-9, far
below that of a wrong formula. Where a function has a kink (ReLU at 0, ties in a max pool) central
differences mean nothing: choose inputs away from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ._validation import Array
from .layers import Layer

Pass: TypeAlias = Callable[..., tuple[Array, Callable[[Array], Any]]]

__all__ = ["GradientMismatchError", "gradcheck"]


class GradientMismatchError(AssertionError):
    """An analytic gradient and its central difference part."""


def gradcheck(
    function: Pass | Layer,
    inputs: ArrayLike | Sequence[ArrayLike],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    seed: int = 0,
) -> bool:
    """Compare the gradients of a pass or a layer with central differences in float64.

    Parameters
    ----------
    function : callable or Layer
        A callable takes the inputs and returns ``(y, backward)``; ``backward(grad_y)`` returns
        one gradient an input, None for an input without one. Of a layer the gradients of its
        parameters are checked too; an unbuilt one is built in float64.
    inputs : ndarray or sequence of ndarray
        Converted to float64.
    eps : float, default 1e-6
        Half the step of the difference.
    atol, rtol : float, default 1e-5 and 1e-3
        Allowed: ``|analytic - numeric| <= atol + rtol * |numeric|``.
    seed : int, default 0
        Draws the direction v.

    Returns
    -------
    bool
        True, always: so that it can stand in an ``assert``.

    Raises
    ------
    GradientMismatchError
        Naming the input or parameter, the worst entry and both values.

    Examples
    --------
    >>> def square(x):
    ...     return x * x, lambda grad_y: grad_y * 2 * x
    >>> gradcheck(square, np.array([1.0, 2.0]))
    True
    >>> def wrong(x):
    ...     return x * x, lambda grad_y: grad_y * x
    >>> gradcheck(wrong, np.array([1.0]))
    Traceback (most recent call last):
        ...
    fastconv.gradcheck.GradientMismatchError: expected the gradient of input 0 at (0,) to be ...
    """
    values = inputs if isinstance(inputs, (list, tuple)) else (inputs,)
    arrays = [np.array(value, dtype=np.float64) for value in values]
    named = [(f"input {i}", array) for i, array in enumerate(arrays)]
    if isinstance(function, Layer):
        layer = function
        if not layer.built:
            layer.build(arrays[0].shape[1:], np.random.default_rng(seed), np.dtype(np.float64))
        if layer.dtype != np.float64:
            raise TypeError(f"expected a layer built in float64; received {layer.name!r} in {layer.dtype}")
        parameters = [parameter for parameter in layer.parameters if parameter.trainable]
        named += [(f"parameter {i}, a {p.name}, of {layer.name!r}", p.value) for i, p in enumerate(parameters)]

        def run(x: Array) -> tuple[Array, Callable[[Array], Any]]:
            y, backward = layer.forward(x)
            return y, lambda grad_y: (backward(grad_y), *(p.grad for p in parameters))

        function = run

    y, backward = function(*arrays)
    direction = np.random.default_rng(seed).standard_normal(y.shape)
    received = backward(direction)
    gradients = received if isinstance(received, (list, tuple)) else (received,)
    if len(gradients) != len(named):
        raise ValueError(f"expected backward to return {len(named)} gradients, one an input; received {len(gradients)}")
    for (name, array), gradient in zip(named, gradients, strict=True):
        if gradient is not None:
            numeric = _central_differences(function, arrays, array, direction, eps)
            _compare(name, np.array(gradient), numeric, atol, rtol)
    return True


def _central_differences(function: Pass, arrays: list[Array], varied: Array, direction: Array, eps: float) -> Array:
    numeric = np.empty_like(varied)
    for index in np.ndindex(varied.shape):
        middle = varied[index]
        varied[index] = middle + eps
        above = function(*arrays)[0].copy()  # the output may be the varied array itself
        varied[index] = middle - eps
        below = function(*arrays)[0].copy()
        varied[index] = middle
        numeric[index] = np.sum((above - below) * direction) / (2 * eps)
    return numeric


def _compare(name: str, analytic: Array, numeric: Array, atol: float, rtol: float) -> None:
    if analytic.shape != numeric.shape:
        raise GradientMismatchError(
            f"expected the gradient of {name} to have its shape {numeric.shape}; received {analytic.shape}"
        )
    excess = np.abs(analytic - numeric) - (atol + rtol * np.abs(numeric))
    wrong = ~(excess <= 0)
    if wrong.any():
        worst = np.unravel_index(np.argmax(np.where(np.isnan(excess), np.inf, excess)), wrong.shape)
        index = tuple(int(i) for i in worst)
        raise GradientMismatchError(
            f"expected the gradient of {name} at {index} to be {numeric[index]:.9g}, the central "
            f"difference; received {analytic[index]:.9g}; "
            f"{np.count_nonzero(wrong)} of {wrong.size} entries part"
        )
