"""Layers that change an array's shape and leave its numbers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .._validation import Array
from .base import Backward, Layer
from .parameter import Shape


class Input(Layer):
    """Say what one sample looks like; the data pass unchanged.

    Parameters
    ----------
    shape : int or tuple of int
        Without the batch axis: ``(channels, height, width)`` for images.
    name : str, optional

    Examples
    --------
    >>> Input((1, 28, 28)).input_shape
    (1, 28, 28)
    """

    only_kernels = True
    by_image = True
    keeps_values = True

    def __init__(self, shape: int | Sequence[int], name: str | None = None) -> None:
        super().__init__(name=name, input_shape=shape)
        self.shape = self.declared_shape

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """Return `x` itself."""

        def backward(grad_y: Array, input_grad: bool = True) -> Array:
            return grad_y

        return x, backward


class Flatten(Layer):
    """Lay a sample's numbers in one row: ``(C, H, W)`` to ``(C * H * W,)``.

    Examples
    --------
    >>> import numpy as np
    >>> Flatten()(np.zeros((2, 16, 5, 5))).shape
    (2, 400)
    """

    only_kernels = True
    by_image = True
    keeps_values = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the number of numbers."""
        return (math.prod(input_shape),)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """Return a view of `x` in the new shape."""
        shape = x.shape

        def backward(grad_y: Array, input_grad: bool = True) -> Array:
            return grad_y.reshape(shape)

        return x.reshape(shape[0], math.prod(shape[1:])), backward
