"""Activation layers, and the one place that names a layer's activation.

Operators fuse the first five names into their stores; softmax needs a whole row of outputs and
runs after them. Derivatives are taken from the output, so a pass keeps no second array. Softmax
runs over axis 1, the classes of ``(N, classes)`` and the channels of ``(N, C, H, W)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .. import ops
from .._call import may_overwrite
from .._config import options, suggestion
from .._validation import Array, real
from .base import Backward, Layer

FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "relu": ops.relu,
    "leaky_relu": ops.leaky_relu,
    "sigmoid": ops.sigmoid,
    "tanh": ops.tanh,
}
NAMES = ("linear", *FUNCTIONS, "softmax")


def checked_activation(name: str | None) -> str | None:
    """Return the name of an activation that a layer can have."""
    if name is None or name in NAMES:
        return name
    if not isinstance(name, str):
        raise TypeError(f"expected activation to be a string or None; received {name!r}")
    raise ValueError(f"expected activation to be {options(NAMES)} or None; received {name!r}{suggestion(name, NAMES)}")


def fused(activation: str | None) -> str | None:
    """Return the part of an activation that an operator's ``activation=`` takes."""
    return None if activation == "softmax" else activation


def activate(x: Array, activation: str | None) -> Array:
    """Return the activation of `x`, which is `x` itself where there is none."""
    if activation is None or activation == "linear":
        return x
    if activation == "softmax":
        return ops.softmax(x, 1)
    return FUNCTIONS[activation](x)


def activation_backward(grad_y: Array, y: Array, activation: str | None) -> Array:
    """Return the gradient before the activation, from that and the output after it; in its place where that may be."""
    if activation is None or activation == "linear":
        return grad_y
    out = grad_y if may_overwrite(grad_y) else None
    if activation == "softmax":
        return ops.softmax_backward(grad_y, y, 1, out=out)
    return ops.activation_backward(grad_y, y, activation, out=out)


class Activation(Layer):
    """Apply an activation to every number.

    Parameters
    ----------
    activation : str
        ``"linear"``, ``"relu"``, ``"leaky_relu"`` (slope 0.01), ``"sigmoid"``, ``"tanh"`` or
        ``"softmax"`` (over axis 1).
    name, input_shape
        As in `Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> Activation("relu")(np.array([[-1.0, 2.0]]))
    array([[0., 2.]])
    """

    only_kernels = True
    by_image = True

    def __init__(
        self,
        activation: str,
        *,
        name: str | None = None,
        input_shape: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.activation = checked_activation(activation)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """Apply the activation."""
        activation = self.activation
        y = activate(x, activation)

        def backward(grad_y: Array, input_grad: bool = True) -> Array | None:
            return activation_backward(grad_y, y, activation) if input_grad else None

        return y, backward


class ReLU(Activation):
    """``max(x, 0)``; NaN stays NaN."""

    only_kernels = True
    by_image = True

    def __init__(self, *, name: str | None = None, input_shape: int | Sequence[int] | None = None) -> None:
        super().__init__("relu", name=name, input_shape=input_shape)


class Softmax(Activation):
    """``exp(x) / sum(exp(x))`` over axis 1: the classes, or the channels of images."""

    only_kernels = True
    by_image = True

    def __init__(self, *, name: str | None = None, input_shape: int | Sequence[int] | None = None) -> None:
        super().__init__("softmax", name=name, input_shape=input_shape)


class LeakyReLU(Layer):
    """``x`` where positive, else ``negative_slope * x``.

    Parameters
    ----------
    negative_slope : float above 0, default 0.01
        PyTorch's default; Keras's is 0.3.
    name, input_shape
        As in `Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> LeakyReLU(0.5)(np.array([[-1.0, 2.0]]))
    array([[-0.5,  2. ]])
    """

    only_kernels = True
    by_image = True

    def __init__(
        self,
        negative_slope: float = 0.01,
        *,
        name: str | None = None,
        input_shape: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.negative_slope = real(negative_slope, "negative_slope")
        if not self.negative_slope > 0:
            raise ValueError(f"expected negative_slope above 0; received {negative_slope!r}: ReLU() is slope 0")

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """Apply the activation."""
        y = ops.leaky_relu(x, self.negative_slope)

        def backward(grad_y: Array, input_grad: bool = True) -> Array | None:
            if not input_grad:
                return None
            return ops.leaky_relu_backward(grad_y, y, self.negative_slope)

        return y, backward
