"""A convolution and the maximum after it, as one step of training.

The larger of two numbers is the one whose activation is larger. So the derivative is taken of the maximum alone, a
quarter of the numbers, and what the convolution gave is done with as soon as the maximum is known: its gradients need
the winners' places.
"""

from __future__ import annotations

from collections.abc import Sequence

from .._call import begin_turns, end_turns, next_turn
from .._validation import Array
from .activation import activation_backward
from .base import Backward, Layer
from .conv import Conv2D
from .pool import MaxPool2D


class PooledConvolution:
    """A convolution and the maximum after it.

    Parameters
    ----------
    convolution : Conv2D
    pool : MaxPool2D
    """

    def __init__(self, convolution: Conv2D, pool: MaxPool2D) -> None:
        self.convolution, self.pool = convolution, pool

    @property
    def learns(self) -> bool:
        """True if a training step changes something here."""
        return self.convolution.learns

    def forward(self, x: Array, training: bool = True) -> tuple[Array, Backward]:
        """Convolve, and take the maximum of each window."""
        convolution, activation = self.convolution, self.convolution.activation
        turns = begin_turns()
        if turns:
            next_turn(x)
        whole = convolution.convolve(x)
        if turns:
            end_turns()
        y, unpool = self.pool.forward(whole, training)

        def backward(grad_y: Array, input_grad: bool = True) -> Array | None:
            grad = unpool(activation_backward(grad_y, y, activation))
            return convolution.convolve_backward(grad, x, input_grad)

        return y, backward


def steps(layers: Sequence[Layer]) -> list[Layer | PooledConvolution]:
    """Return the layers as steps of training, with every convolution and the maximum after it as one."""
    found: list[Layer | PooledConvolution] = []
    for layer in layers:
        last = found[-1] if found else None
        if type(layer) is MaxPool2D and layer.forgets_input and type(last) is Conv2D and last.activation != "softmax":
            found[-1] = PooledConvolution(last, layer)
        else:
            found.append(layer)
    return found
