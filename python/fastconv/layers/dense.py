"""The fully connected layer."""

from __future__ import annotations

from collections.abc import Sequence

from .. import ops
from .._shapes import integer
from .._validation import Array
from ..initializers import Initializer
from ..regularizers import Constraint, Regularizer
from .activation import activate, activation_backward, checked_activation, fused
from .base import Backward, Layer
from .parameter import Shape


class Dense(Layer):
    """Every input to every output: ``activation(x @ kernel.T + bias)``.

    Input shape ``(features,)``, output shape ``(units,)``. The kernel has shape
    ``(units, features)``, as in PyTorch; Keras keeps its transpose.

    Parameters
    ----------
    units : int
        Outputs.
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
    >>> layer = Dense(64, activation="relu")
    >>> layer(np.zeros((2, 128), np.float32)).shape
    (2, 64)
    >>> sum(parameter.value.size for parameter in layer.parameters)
    8256
    """

    only_kernels = True

    def __init__(
        self,
        units: int,
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
        self.units = integer(units, "units", 1)
        self.activation = checked_activation(activation)
        self.use_bias = bool(use_bias)
        self.kernel = self.add_parameter("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        self.kernel_initializer = self.kernel.initializer
        self.bias = self.add_parameter("bias", bias_initializer, bias_regularizer) if use_bias else None
        self.bias_initializer = self.bias.initializer if self.bias else bias_initializer
        self.kernel_regularizer, self.kernel_constraint = self.kernel.regularizer, self.kernel.constraint
        self.bias_regularizer = self.bias.regularizer if self.bias else bias_regularizer

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (units,)."""
        if len(input_shape) != 1:
            raise ValueError(
                f"expected {self.name!r} to receive (features,); received {input_shape}: add Flatten() before it"
            )
        return (self.units,)

    def parameter_shapes(self, input_shape: Shape) -> list[Shape]:
        """Return the shapes of kernel and bias."""
        kernel = (self.units, input_shape[0])
        return [kernel, (self.units,)] if self.use_bias else [kernel]

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """Multiply, add the bias and apply the activation, in one operator."""
        kernel, bias, activation = self.kernel, self.bias, self.activation
        bias_value = None if bias is None else bias.value
        y = ops.dense(x, kernel.value, bias_value, activation=fused(activation))
        if activation == "softmax":
            y = activate(y, activation)

        def backward(grad_y: Array, input_grad: bool = True) -> Array | None:
            learns = self._trainable
            return ops.dense_backward(
                activation_backward(grad_y, y, activation),
                x,
                kernel.value,
                output_mask=(input_grad, learns, learns and bias is not None),
                out=(None, kernel.grad, None if bias is None else bias.grad),
            )[0]

        return y, backward
