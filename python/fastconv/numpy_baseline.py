"""Training in plain NumPy: what a model's steps cost without compiled kernels.

`NumpyTrainer` takes a compiled model and makes the same steps, forward, backward and optimizer,
with the functions of ``fastconv.reference`` alone. It starts from a copy of the model, so both give
the same losses on the same batches (a test holds them to it), and their speeds may be compared.
"""

from __future__ import annotations

import copy
from functools import singledispatch
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from . import reference
from .layers import (
    Activation,
    AvgPool2D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2D,
    Input,
    Layer,
    LeakyReLU,
    MaxPool2D,
    Stack,
)
from .layers.base import Backward
from .layers.parameter import FlatParameters
from .losses import SparseCategoricalCrossentropy
from .optimizers import SGD, Adam, Optimizer
from .reference.activation import ACTIVATIONS
from .training import Sequential

__all__ = ["NumpyTrainer"]

Array: TypeAlias = NDArray[Any]


class NumpyTrainer:
    """Makes a model's training steps in plain NumPy, on a copy of its weights.

    Parameters
    ----------
    model : Sequential
        Built and compiled. It is not changed.

    Raises
    ------
    RuntimeError
        If the model is not built and compiled.
    NotImplementedError
        If it has a layer or an optimizer of another library, or of your own.

    Examples
    --------
    >>> from fastconv.models import mlp
    >>> model = mlp((4,), classes=3, seed=0)
    >>> model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    >>> x, y = np.eye(4, dtype=np.float32), np.array([0, 1, 2, 0])
    >>> baseline = NumpyTrainer(model)
    >>> abs(baseline.train_on_batch(x, y) - model.train_on_batch(x, y)) < 1e-6
    True
    """

    def __init__(self, model: Sequential) -> None:
        if not model.built or model.optimizer is None or model.loss is None:
            raise RuntimeError("expected a model that is built and compiled")
        _require(_update, model.optimizer)
        _require(_forward, model)
        self._layers = copy.deepcopy(model)
        self._flat = FlatParameters(self._layers.parameters, self._layers.dtype)
        self._optimizer = copy.deepcopy(model.optimizer)
        self._loss = model.loss

    def train_on_batch(self, x: Array, y: NDArray[np.integer[Any]]) -> float:
        """Make one step.

        Parameters
        ----------
        x : ndarray (N, *input_shape), of the model's dtype
        y : ndarray (N,)
            Labels, or what else the model's loss takes.

        Returns
        -------
        float
            The loss before the step.
        """
        predictions, backward = _forward(self._layers, x)
        loss = self._loss
        if isinstance(loss, SparseCategoricalCrossentropy) and loss.from_logits:
            value, grad = reference.softmax_cross_entropy(predictions, y)
        else:  # every other loss is plain NumPy as it stands
            value, grad = loss.value_and_gradient(y, predictions)
        backward(grad, input_grad=False)
        _update(self._optimizer, self._flat.trained_values, self._flat.trained_gradients)
        self._optimizer.iterations += 1
        return value


def _require(function: Any, part: object) -> None:
    """Raise NotImplementedError unless `function` knows the part and all within it."""
    if function.dispatch(type(part)) is function.dispatch(object):
        function(part)
    for below in part.layers if isinstance(part, Stack) else ():
        _require(function, below)


@singledispatch
def _update(optimizer: Optimizer, *arrays: Array) -> None:
    raise NotImplementedError(f"no plain NumPy version of {type(optimizer).__name__}")


@_update.register
def _(optimizer: SGD, parameters: Array, gradients: Array) -> None:
    velocity = optimizer.slot("velocity", parameters) if optimizer.momentum else None
    reference.sgd_update(
        parameters,
        gradients,
        velocity,
        optimizer.learning_rate,
        optimizer.momentum,
        optimizer.nesterov,
    )


@_update.register
def _(optimizer: Adam, parameters: Array, gradients: Array) -> None:
    reference.adam_update(
        parameters,
        gradients,
        optimizer.slot("first_moment", parameters),
        optimizer.slot("second_moment", parameters),
        optimizer.learning_rate,
        optimizer.beta_1,
        optimizer.beta_2,
        optimizer.epsilon,
        optimizer.iterations + 1,
    )


@singledispatch
def _forward(layer: Layer, *arrays: Array) -> tuple[Array, Backward]:
    raise NotImplementedError(f"no plain NumPy version of {type(layer).__name__}")


@_forward.register
def _(layer: Stack, x: Array) -> tuple[Array, Backward]:
    backwards: list[Backward] = []
    for below in layer.layers:
        x, below_backward = _forward(below, x)
        backwards.append(below_backward)
    learning = [i for i, below in enumerate(layer.layers) if below.learns]

    def backward(grad_y: Array, input_grad: bool = True) -> Array | None:
        last = 0 if input_grad else min(learning, default=len(backwards))
        for below_backward in reversed(backwards[last + 1 :]):
            grad_y = below_backward(grad_y)
        return backwards[last](grad_y, input_grad) if last < len(backwards) else grad_y

    return x, backward


@_forward.register
def _(layer: Conv2D, x: Array) -> tuple[Array, Backward]:
    weight, grad_weight, bias, grad_bias = _arrays(layer)
    geometry = (layer.strides, layer.padding, layer.dilation_rate, layer.groups)
    y = _activate(reference.conv2d(x, weight, bias, *geometry), layer.activation)

    def backward(grad_y: Array, input_grad: bool = True) -> Array | None:
        return reference.conv2d_backward(
            _activation_backward(grad_y, y, layer.activation),
            x,
            weight,
            *geometry,
            output_mask=(input_grad, layer.learns, layer.learns and bias is not None),
            out=(None, grad_weight, grad_bias),
        )[0]

    return y, backward


@_forward.register
def _(layer: Dense, x: Array) -> tuple[Array, Backward]:
    weight, grad_weight, bias, grad_bias = _arrays(layer)
    y = _activate(reference.dense(x, weight, bias), layer.activation)

    def backward(grad_y: Array, input_grad: bool = True) -> Array | None:
        return reference.dense_backward(
            _activation_backward(grad_y, y, layer.activation),
            x,
            weight,
            output_mask=(input_grad, layer.learns, layer.learns and bias is not None),
            out=(None, grad_weight, grad_bias),
        )[0]

    return y, backward


@_forward.register
def _(layer: MaxPool2D, x: Array) -> tuple[Array, Backward]:
    window = (layer.pool_size, layer.strides, layer.padding)

    def backward(grad_y: Array, input_grad: bool = True) -> Array:
        return reference.max_pool2d_backward(grad_y, x, *window)

    return reference.max_pool2d(x, *window), backward


@_forward.register
def _(layer: AvgPool2D, x: Array) -> tuple[Array, Backward]:
    window, shape = (layer.pool_size, layer.strides, layer.padding), x.shape

    def backward(grad_y: Array, input_grad: bool = True) -> Array:
        return reference.avg_pool2d_backward(grad_y, shape, *window, count_include_pad=False)

    return reference.avg_pool2d(x, *window, count_include_pad=False), backward


@_forward.register
def _(layer: GlobalAvgPool2D, x: Array) -> tuple[Array, Backward]:
    shape = x.shape

    def backward(grad_y: Array, input_grad: bool = True) -> Array:
        return reference.global_avg_pool2d_backward(grad_y.reshape(*shape[:2], 1, 1), shape)

    return reference.global_avg_pool2d(x).reshape(shape[:2]), backward


@_forward.register
def _(layer: Activation, x: Array) -> tuple[Array, Backward]:
    y = _activate(x, layer.activation)

    def backward(grad_y: Array, input_grad: bool = True) -> Array:
        return _activation_backward(grad_y, y, layer.activation)

    return y, backward


@_forward.register
def _(layer: LeakyReLU, x: Array) -> tuple[Array, Backward]:
    y = reference.leaky_relu(x, layer.negative_slope)

    def backward(grad_y: Array, input_grad: bool = True) -> Array:
        return reference.leaky_relu_backward(grad_y, y, layer.negative_slope)

    return y, backward


@_forward.register(Input)
@_forward.register(Flatten)
@_forward.register(Dropout)
def _(layer: Layer, x: Array) -> tuple[Array, Backward]:
    return layer.forward(x, training=True)  # plain NumPy as they stand


def _arrays(layer: Conv2D | Dense) -> tuple[Array, Array, Array | None, Array | None]:
    """Return weight and bias, each with its gradient."""
    bias = layer.bias
    return (
        layer.kernel.value,
        layer.kernel.grad,
        None if bias is None else bias.value,
        None if bias is None else bias.grad,
    )


def _activate(x: Array, activation: str | None) -> Array:
    if activation == "softmax":
        return reference.softmax(x, 1)
    return ACTIVATIONS[activation].forward(x)


def _activation_backward(grad_y: Array, y: Array, activation: str | None) -> Array:
    if activation == "softmax":
        return reference.softmax_backward(grad_y, y, 1)
    return reference.activation_backward(grad_y, y, activation)
