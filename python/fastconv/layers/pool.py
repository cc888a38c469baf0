"""Pooling layers: the maximum or the mean of each window, channel by channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import ops
from .._shapes import check_pool_padding, geometry, pair
from .._validation import Array
from .base import Backward, Layer, as_tuples, image_shape
from .parameter import Shape


class _Pool2D(Layer):
    """What the window pools share: their arguments and their output's shape."""

    def __init__(
        self,
        pool_size: int | Sequence[int] = 2,
        strides: int | Sequence[int] | None = None,
        padding: Any = "valid",
        name: str | None = None,
        *,
        input_shape: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.pool_size = pair(pool_size, "pool_size", 1)
        self.strides = self.pool_size if strides is None else pair(strides, "strides", 1)
        self.padding = as_tuples(padding)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (channels, OH, OW)."""
        channels, height, width = image_shape(self, input_shape)
        window = geometry(height, width, self.pool_size, self.strides, self.padding, 1)
        check_pool_padding(window.padding, window.kernel)
        return channels, window.out_height, window.out_width


class MaxPool2D(_Pool2D):
    """Largest number of each window; NaN wins, and the first of equals gets the gradient.

    Input shape ``(channels, height, width)``, output shape ``(channels, OH, OW)``.

    Parameters
    ----------
    pool_size : int or pair, default 2
        Rows and columns of the window.
    strides : int or pair, optional
        By default `pool_size`: windows side by side.
    padding : "valid", "same", int, pair or pair of pairs, default "valid"
        Padding never wins.
    name, input_shape
        As in `Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[8.0, 4, 2, 1], [9, 3, 2, 8], [1, 5, 7, 1], [2, 0, 3, 7]])
    >>> MaxPool2D(2)(x.reshape(1, 1, 4, 4))[0, 0]
    array([[9., 8.],
           [5., 7.]])
    """

    only_kernels = True
    by_image = True

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """Take the maximum of each window."""
        if training and self.forgets_input:
            return self._forward_by_taps(x)
        y = ops.max_pool2d(x, self.pool_size, self.strides, self.padding)

        def backward(grad_y: Array, input_grad: bool = True) -> Array | None:
            if not input_grad:
                return None
            return ops.max_pool2d_backward(grad_y, x, self.pool_size, self.strides, self.padding)

        return y, backward

    @property
    def forgets_input(self) -> bool:
        """Whether training keeps a byte for each output in place of the input: with windows of 2 x 2 side by side."""
        return self.pool_size == self.strides == (2, 2) and self.padding in ("valid", 0)

    @staticmethod
    def _forward_by_taps(x: Array) -> tuple[Array, Backward]:
        y, taps = ops.max_pool2x2(x)
        shape = x.shape

        def backward(grad_y: Array, input_grad: bool = True) -> Array | None:
            return ops.max_pool2x2_backward(grad_y, taps, shape) if input_grad else None

        return y, backward


class AvgPool2D(_Pool2D):
    """Mean of each window's pixels, padding not counted (as Keras; PyTorch counts it).

    Input shape ``(channels, height, width)``, output shape ``(channels, OH, OW)``.

    Parameters
    ----------
    pool_size : int or pair, default 2
        Rows and columns of the window.
    strides : int or pair, optional
        By default `pool_size`: windows side by side.
    padding : "valid", "same", int, pair or pair of pairs, default "valid"
    name, input_shape
        As in `Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> AvgPool2D(2)(np.arange(4.0).reshape(1, 1, 2, 2))
    array([[[[1.5]]]])
    """

    only_kernels = True
    by_image = True

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """Take the mean of each window."""
        y = ops.avg_pool2d(x, self.pool_size, self.strides, self.padding, count_include_pad=False)
        shape = x.shape

        def backward(grad_y: Array, input_grad: bool = True) -> Array | None:
            if not input_grad:
                return None
            return ops.avg_pool2d_backward(
                grad_y, shape, self.pool_size, self.strides, self.padding, count_include_pad=False
            )

        return y, backward


class GlobalAvgPool2D(Layer):
    """Mean of each channel.

    Input shape ``(channels, height, width)``, output shape ``(channels,)``.

    Examples
    --------
    >>> import numpy as np
    >>> GlobalAvgPool2D()(np.arange(8.0).reshape(1, 2, 2, 2))
    array([[1.5, 5.5]])
    """

    only_kernels = True
    by_image = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (channels,)."""
        return (image_shape(self, input_shape)[0],)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """Take the mean of each channel."""
        shape = x.shape
        y = ops.global_avg_pool2d(x).reshape(shape[:2])

        def backward(grad_y: Array, input_grad: bool = True) -> Array | None:
            if not input_grad:
                return None
            return ops.global_avg_pool2d_backward(grad_y.reshape(*shape[:2], 1, 1), shape)

        return y, backward
