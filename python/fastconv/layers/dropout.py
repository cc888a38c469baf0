"""Dropout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._call import empty, not_a_kernel
from .._validation import Array, real
from .base import Backward, Layer


class Dropout(Layer):
    """In training, set a random share of the numbers to 0 and scale the rest by 1 / (1 - rate).

    In inference the data pass unchanged: the scaling keeps the expectation the same (Srivastava
    et al., 2014, inverted).

    Parameters
    ----------
    rate : float from 0 up to 1
        Share to drop.
    name, input_shape
        As in `Layer`.

    Examples
    --------
    >>> layer = Dropout(0.5)
    >>> layer.build((100,), np.random.default_rng(0))
    >>> y, backward = layer.forward(np.ones((1, 100), np.float32), training=True)
    >>> np.unique(y)
    array([0., 2.], dtype=float32)
    """

    only_kernels = True
    by_image = True
    keeps_values = True

    def __init__(
        self,
        rate: float,
        name: str | None = None,
        *,
        input_shape: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.rate = real(rate, "rate")
        if not 0 <= self.rate < 1:
            raise ValueError(f"expected rate at least 0 and below 1; received {rate!r}")

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """Drop in training, pass through otherwise."""
        if not training or self.rate == 0:
            return x, _unchanged
        if self.rng is None:
            raise RuntimeError(f"expected {self.name!r} to be built; call build(input_shape) first")
        not_a_kernel()
        scale = 1 / (1 - self.rate)
        y = empty(x.shape, x.dtype)
        self.rng.random(dtype=x.dtype.type, out=y)
        kept = np.greater_equal(y, self.rate, out=empty(x.shape, np.dtype(np.bool_)))
        np.multiply(x, kept, out=y)
        y *= scale

        def backward(grad_y: Array, input_grad: bool = True) -> Array | None:
            if not input_grad:
                return None
            grad_x: Array = np.multiply(grad_y, kept, out=empty(grad_y.shape, grad_y.dtype))
            grad_x *= scale
            return grad_x

        return y, backward


def _unchanged(grad_y: Array, input_grad: bool = True) -> Array:
    return grad_y
