"""The convolution layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import ops
from .._shapes import geometry, integer, pair
from .._validation import Array
from ..initializers import Initializer
from ..regularizers import Constraint, Regularizer
from .activation import activate, activation_backward, checked_activation, fused
from .base import Backward, Layer, as_tuples, image_shape
from .parameter import Shape


class Conv2D(Layer):
    """Convolution of images with learned filters, ``activation(conv2d(x, kernel) + bias)``.

    Input shape ``(channels, height, width)``, output shape ``(filters, OH, OW)``. The kernel has
    shape ``(filters, channels / groups, R, S)``.

    Parameters
    ----------
    filters : int
        Output channels.
    kernel_size : int or pair
        Rows R and columns S.
    strides : int or pair, default 1
    padding : "valid", "same", int, pair or pair of pairs, default "valid"
        ``"same"`` gives ``ceil(H / stride)`` rows; numbers are pixels on each side.
    dilation_rate : int or pair, default 1
        Distance between taps.
    groups : int, default 1
        Each group of output channels sees its own group of input channels.
    activation : str, optional
        See `Activation`.
    use_bias : bool, default True
    kernel_initializer, bias_initializer : str or Initializer
        By default ``"glorot_uniform"`` and ``"zeros"``.
    kernel_regularizer, bias_regularizer : str or Regularizer, optional
        Penalties on large weights; see `fastconv.regularizers`.
    kernel_constraint : str or Constraint, optional
        What each training step makes of the kernel at its end, such as ``"max_norm"``.
    name, input_shape
        As in `Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Conv2D(6, 5, padding="same", activation="relu")
    >>> layer(np.zeros((2, 1, 28, 28), np.float32)).shape
    (2, 6, 28, 28)
    >>> layer.kernel.value.shape
    (6, 1, 5, 5)
    """

    only_kernels = True
    by_image = True

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: Any = "valid",
        dilation_rate: int | Sequence[int] = 1,
        groups: int = 1,
        activation: str | None = None,
        use_bias: bool = True,
        kernel_initializer: str | Initializer = "glorot_uniform",
        bias_initializer: str | Initializer = "zeros",
        kernel_regularizer: str | Regularizer | None = None,
        bias_regularizer: str | Regularizer | None = None,
        kernel_constraint: str | Constraint | None = None,
        name: str | None = None,
        *,
        input_shape: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.filters = integer(filters, "filters", 1)
        self.kernel_size = pair(kernel_size, "kernel_size", 1)
        self.strides = pair(strides, "strides", 1)
        self.padding = as_tuples(padding)
        self.dilation_rate = pair(dilation_rate, "dilation_rate", 1)
        self.groups = integer(groups, "groups", 1)
        self.activation = checked_activation(activation)
        self.use_bias = bool(use_bias)
        self.kernel = self.add_parameter("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        self.kernel_initializer = self.kernel.initializer
        self.bias = self.add_parameter("bias", bias_initializer, bias_regularizer) if use_bias else None
        self.bias_initializer = self.bias.initializer if self.bias else bias_initializer
        self.kernel_regularizer, self.kernel_constraint = self.kernel.regularizer, self.kernel.constraint
        self.bias_regularizer = self.bias.regularizer if self.bias else bias_regularizer

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (filters, OH, OW)."""
        _, height, width = image_shape(self, input_shape)
        window = geometry(height, width, self.kernel_size, self.strides, self.padding, self.dilation_rate)
        return self.filters, window.out_height, window.out_width

    def parameter_shapes(self, input_shape: Shape) -> list[Shape]:
        """Return the shapes of kernel and bias."""
        channels = input_shape[0]
        if channels % self.groups or self.filters % self.groups:
            raise ValueError(
                f"expected groups to divide {channels} input channels and {self.filters} filters; "
                f"received {self.groups}"
            )
        kernel = (self.filters, channels // self.groups, *self.kernel_size)
        return [kernel, (self.filters,)] if self.use_bias else [kernel]

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """Convolve, add the bias and apply the activation, in one operator."""
        activation = self.activation
        y = self.convolve(x)
        if activation == "softmax":
            y = activate(y, activation)

        def backward(grad_y: Array, input_grad: bool = True) -> Array | None:
            return self.convolve_backward(activation_backward(grad_y, y, activation), x, input_grad)

        return y, backward

    def convolve(self, x: Array) -> Array:
        """Return the output for `x`, but for a softmax."""
        bias = None if self.bias is None else self.bias.value
        return ops.conv2d(x, self.kernel.value, bias, *self._geometry(), activation=fused(self.activation))

    def convolve_backward(self, grad: Array, x: Array, input_grad: bool) -> Array | None:
        """Write the parameters' gradients, and return the input's, from the gradient before the activation."""
        kernel, bias, learns = self.kernel, self.bias, self._trainable
        return ops.conv2d_backward(
            grad,
            x,
            kernel.value,
            *self._geometry(),
            output_mask=(input_grad, learns, learns and bias is not None),
            out=(None, kernel.grad, None if bias is None else bias.grad),
        )[0]

    def _geometry(self) -> tuple[Any, ...]:
        return self.strides, self.padding, self.dilation_rate, self.groups
