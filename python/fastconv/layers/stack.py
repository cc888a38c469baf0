"""Layers one after another, as one layer.

This is the half of ``Sequential`` that computes; training is built on it. A stack may stand in
another stack: forward and backward just follow the nesting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from .._validation import Array
from . import chain
from .base import Backward, Layer, checked_dtype, checked_shape
from .parameter import Parameter, Shape
from .replay import Replays

S = TypeVar("S", bound="Stack")


class Stack(Layer):
    """Layers applied in order.

    Parameters
    ----------
    layers : sequence of Layer, optional
    name : str, optional

    Attributes
    ----------
    layers : list of Layer

    Examples
    --------
    >>> from fastconv.layers import Dense, Flatten
    >>> stack = Stack([Flatten(), Dense(3)])
    >>> stack(np.zeros((2, 4, 5))).shape
    (2, 3)
    """

    only_kernels = True
    by_image = True

    def __init__(self, layers: Sequence[Layer] | None = None, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.layers: list[Layer] = []
        self._replays = Replays()
        for layer in layers if layers is not None else ():
            self._append(layer)

    def _append(self, layer: Layer) -> None:
        if not isinstance(layer, Layer):
            made = isinstance(layer, type) and issubclass(layer, Layer)
            cure = f": make one, {layer.__name__}(...)" if made else ""
            raise TypeError(f"expected a layer; received {layer!r}{cure}")
        if layer is self or any(layer is other for other in self.layers):
            raise ValueError(
                f"expected each layer once; received {layer.name!r} twice: its gradients would overwrite each other"
            )
        names = {other.name for other in self.layers}
        if layer.name in names:
            if layer._named:
                raise ValueError(f"expected unique names; received {layer.name!r} twice")
            numbers = range(1, len(names) + 1)
            layer.name = next(name for i in numbers if (name := f"{layer.name}_{i}") not in names)
        self.layers.append(layer)
        if self.declared_shape is None and self.layers[0] is layer:
            self.declared_shape = layer.declared_shape

    @classmethod
    def from_config(cls: type[S], config: Mapping[str, Any]) -> S:
        """Make an unbuilt stack, even where its first layer declares a shape."""
        stack = cls(**{**config, "layers": None})
        for layer in config["layers"]:
            stack._append(layer)
        return stack

    def __repr__(self) -> str:
        """Class, name and the names of the layers."""
        names = ", ".join(layer.name for layer in self.layers)
        return f"<{type(self).__name__} {self.name!r}: {names}>"

    @property
    def parameters(self) -> list[Parameter]:
        """Parameters of all layers, in order."""
        return [parameter for layer in self.layers for parameter in layer.parameters]

    @property
    def trainable(self) -> bool:
        """Whether training moves any parameter; setting it sets every layer's."""
        return any(layer.trainable for layer in self.layers)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.layers:
            layer.trainable = value

    @property
    def learns(self) -> bool:
        """True if a training step changes something here."""
        return any(layer.learns for layer in self.layers)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return what the last layer makes of that shape."""
        for layer in self.layers:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    def build(
        self,
        input_shape: int | Sequence[int],
        rng: np.random.Generator | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        """Build the layers in order; those that are built already keep their values."""
        parameters = self.parameters
        if len({id(parameter) for parameter in parameters}) < len(parameters):
            raise ValueError("expected each layer once; received one that several stacks hold")
        shape = self.input_shape = checked_shape(input_shape)
        self.rng = np.random.default_rng() if rng is None else rng
        self.dtype = checked_dtype(np.float32 if dtype is None else dtype)
        for position, layer in enumerate(self.layers):
            shape = self._build_layer(position, layer, shape, self.rng, self.dtype)
        self.output_shape = shape
        self.built = True

    @staticmethod
    def _build_layer(position: int, layer: Layer, shape: Shape, rng: np.random.Generator, dtype: DTypeLike) -> Shape:
        place = f"layer {position} ({layer.name!r})"
        for known in (layer.input_shape if layer.built else None, layer.declared_shape):
            if known not in (None, shape):
                raise ValueError(f"expected {place} to receive {known}; received {shape}")
        if not layer.built:
            try:
                layer.build(shape, rng, dtype)
            except ValueError as error:
                raise ValueError(f"{place} on input {shape}: {error}") from error
        elif layer.dtype != dtype:
            raise ValueError(f"expected {place} to be built in {dtype}; it is in {layer.dtype}")
        else:
            layer.use_rng(rng)
        if layer.output_shape is None:
            raise RuntimeError(f"expected {place} to set its output_shape in build")
        return layer.output_shape

    def use_rng(self, rng: np.random.Generator) -> None:
        """Draw random numbers from `rng` from now on, in every layer."""
        self.rng = rng
        for layer in self.layers:
            layer.use_rng(rng)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """Run the layers in order; backward runs their other halves in reverse.

        Without `input_grad` it stops at the first layer that learns: nothing below needs it.
        """
        return chain.forward(self.layers, x, training)

    def __call__(self, x: Array) -> Array:
        """Return the output for `x`, as inference computes it; the first call builds the layers.

        Parameters
        ----------
        x : ndarray (N, *input_shape), float32 or float64
        """
        if not self.built:
            self._build_for(x)
        return self._replays.compute(self, x, self.dtype)

    def infer(self, x: Array) -> Array:
        """Return the output for `x`, layer by layer; each layer's input is dropped as soon as it is used."""
        return chain.infer(self.layers, x)
