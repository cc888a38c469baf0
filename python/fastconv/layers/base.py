"""The layer contract: a layer is a value with parameters, a pass is a pair.

``forward(x, training)`` returns ``(y, backward)``. What backward needs it keeps in its closure, so
a layer itself remembers nothing of a pass: threads may predict with one layer at once, and
inference drops every input as soon as it is used. Shapes are without the batch axis, images are
``(channels, height, width)``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .. import initializers
from .._config import Configurable
from .._shapes import integer
from .._validation import Array
from ..regularizers import get_constraint, get_regularizer
from .parameter import Parameter, Shape
from .replay import Watched

L = TypeVar("L", bound="Layer")


class Backward(Protocol):
    """The second half of a pass, returned by the first."""

    def __call__(self, grad_y: Array, input_grad: bool = True) -> Any:
        """Write the parameters' gradients and return the gradient in the layer's input.

        Parameters
        ----------
        grad_y : ndarray of the output's shape
            It may be written over where `_call.may_overwrite` allows it: whoever hands one to two layers copies it.
        input_grad : bool, default True
            False where nobody needs the input's gradient; None may then be returned.
        """


class Layer(Watched, Configurable):
    """Base class; a subclass writes `forward` and, where shapes change, `compute_output_shape`.

    A layer with parameters makes them with `add_parameter` in its constructor and states their
    shapes in `parameter_shapes`. Every constructor argument is kept in an attribute of its name.

    Parameters
    ----------
    name : str, optional
        Shown in summaries and errors; by default the class's name in snake case.
    input_shape : int or tuple of int, optional
        Shape of one sample. Given on a model's first layer it builds the model at once.

    Attributes
    ----------
    built : bool
        True once parameters have values.
    input_shape, output_shape : tuple of int or None
        Shapes of one sample; None before the layer is built, unless declared.
    dtype : numpy.dtype
        Of the parameters.

    Examples
    --------
    >>> class Square(Layer):
    ...     def forward(self, x, training=False):
    ...         def backward(grad_y, input_grad=True):
    ...             return 2 * x * grad_y
    ...
    ...         return x * x, backward
    >>> Square()(np.array([[3.0]]))
    array([[9.]])
    """

    activation: str | None = None
    keeps_values = False
    """True for layers whose output is their input rearranged or masked, such as Flatten."""
    only_kernels = False
    """True in a class whose inference is kernels and views alone, so that it may be recorded (see `replay`)."""

    by_image = False
    """True in a class that treats each image by itself, and reads more of images than of parameters (see `chunks`)."""

    def __init__(self, *, name: str | None = None, input_shape: int | Sequence[int] | None = None) -> None:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"expected name to be a string; received {name!r}")
        self._named = name is not None
        self.name = name if name is not None else _snake_case(type(self).__name__)
        self.built = False
        self.declared_shape = None if input_shape is None else checked_shape(input_shape)
        self.input_shape = self.declared_shape
        self.output_shape: Shape | None = None
        self.dtype: np.dtype[Any] = np.dtype(np.float32)
        self.rng: np.random.Generator | None = None
        self._parameters: list[Parameter] = []
        self._trainable = True

    @property
    def parameters(self) -> list[Parameter]:
        """Parameters in the order of `parameter_shapes`."""
        return self._parameters

    @property
    def trainable(self) -> bool:
        """Whether training moves the parameters; a compiled model must be compiled again."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for parameter in self.parameters:
            parameter.trainable = self._trainable
            parameter.disown()

    @property
    def learns(self) -> bool:
        """True if a training step changes something here."""
        return self._trainable and bool(self._parameters)

    def add_parameter(self, name: str, initializer: Any, regularizer: Any = None, constraint: Any = None) -> Parameter:
        """Make a parameter, without values yet.

        Parameters
        ----------
        name : str
        initializer : str or Initializer
        regularizer : str or Regularizer, optional
        constraint : str or Constraint, optional
        """
        parameter = Parameter(
            name,
            initializers.get(initializer, f"{name}_initializer"),
            get_regularizer(regularizer, f"{name}_regularizer"),
            get_constraint(constraint, f"{name}_constraint"),
        )
        self._parameters.append(parameter)
        return parameter

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one output sample; by default that of the input."""
        return input_shape

    def parameter_shapes(self, input_shape: Shape) -> list[Shape]:
        """Return the parameters' shapes for inputs of that shape, in their order."""
        return []

    def build(
        self,
        input_shape: int | Sequence[int],
        rng: np.random.Generator | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        """Give the parameters their first values.

        Parameters
        ----------
        input_shape : int or tuple of int
            Shape of one sample.
        rng : numpy.random.Generator, optional
            Draws the values, and later what the layer draws in training. By default a fresh one.
        dtype : dtype, default float32
        """
        shape = checked_shape(input_shape)
        output_shape = self.compute_output_shape(shape)
        parameter_shapes = self.parameter_shapes(shape)
        self.rng = np.random.default_rng() if rng is None else rng
        self.dtype = checked_dtype(np.float32 if dtype is None else dtype)
        for parameter, parameter_shape in zip(self.parameters, parameter_shapes, strict=True):
            parameter.disown()
            parameter.create(parameter_shape, self.rng, self.dtype)
        self.input_shape, self.output_shape = shape, output_shape
        self.built = True

    def use_rng(self, rng: np.random.Generator) -> None:
        """Draw random numbers from `rng` from now on."""
        self.rng = rng

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Backward]:
        """Compute the output, and the function that carries gradients back.

        Parameters
        ----------
        x : ndarray (N, *input_shape)
        training : bool, default False

        Returns
        -------
        y : ndarray (N, *output_shape)
        backward : callable
            See `Backward`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(x, training)")

    def __call__(self, x: Array) -> Array:
        """Return the output for `x`, as inference computes it; the first call builds the layer.

        Parameters
        ----------
        x : ndarray (N, *input_shape), float32 or float64
        """
        if not self.built or not isinstance(x, np.ndarray):
            self._build_for(x)
        return self.forward(x)[0]

    def _build_for(self, x: Array) -> None:
        """Build the layer, if it is not, for the first `x` that it sees."""
        if not isinstance(x, np.ndarray):
            raise TypeError(
                f"expected x to be a NumPy array; received {type(x).__name__}: np.asarray(x, dtype=np.float32)"
            )
        if not self.built:
            self.build(x.shape[1:], dtype=x.dtype)

    def get_weights(self) -> list[Array]:
        """Return copies of all parameters, in their order."""
        return [parameter.value.copy() for parameter in self.parameters]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Set all parameters, all or none.

        Parameters
        ----------
        weights : sequence of array_like
            As `get_weights` returns them.
        """
        parameters = self.parameters
        if len(weights) != len(parameters):
            raise ValueError(f"expected {len(parameters)} arrays, one a parameter; received {len(weights)}")
        arrays = [np.asarray(weight, self.dtype) for weight in weights]
        for position, (array, parameter) in enumerate(zip(arrays, parameters, strict=True)):
            if array.shape != parameter.value.shape:
                raise ValueError(
                    f"expected weights[{position}], a {parameter.name}, of shape "
                    f"{parameter.value.shape}; received {array.shape}"
                )
        for array, parameter in zip(arrays, parameters, strict=True):
            parameter.value[...] = array

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as values that JSON can hold."""
        config = super().get_config()
        if "input_shape" in config:  # the declared one: the built one belongs to a model
            config["input_shape"] = self.declared_shape and list(self.declared_shape)
        if not self._trainable:
            config["trainable"] = False
        return config

    @classmethod
    def from_config(cls: type[L], config: Any) -> L:
        """Make an unbuilt layer from what `get_config` returned."""
        arguments = dict(config)
        trainable = arguments.pop("trainable", True)
        layer = cls(**arguments)
        layer.trainable = trainable
        return layer


def checked_shape(shape: int | Sequence[int]) -> Shape:
    """Return the shape of one sample as a tuple of positive ints.

    Examples
    --------
    >>> checked_shape([1, 28, 28])
    (1, 28, 28)
    """
    sizes = shape if isinstance(shape, (list, tuple)) else (shape,)
    return tuple(integer(size, "input_shape", 1) for size in sizes)


def checked_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return float32 or float64 as a dtype."""
    checked = np.dtype(dtype)
    if checked not in (np.float32, np.float64):
        raise ValueError(f"expected dtype float32 or float64; received {checked}")
    return checked


def as_tuples(value: Any) -> Any:
    """Return lists, such as JSON makes of tuples, as tuples again."""
    return tuple(map(as_tuples, value)) if isinstance(value, (list, tuple)) else value


def image_shape(layer: Layer, input_shape: Shape) -> tuple[int, int, int]:
    """Return (channels, height, width), or say what is missing."""
    if len(input_shape) != 3:
        cure = (
            ": add the channel axis, x[:, np.newaxis]"
            if len(input_shape) == 2
            else ": it must come before Flatten() and Dense()"
        )
        raise ValueError(f"expected {layer.name!r} to receive (channels, height, width); received {input_shape}{cure}")
    channels, height, width = input_shape
    return channels, height, width


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name).lower()
