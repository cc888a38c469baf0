"""Parameters, and the two flat arrays in which a model keeps them.

A layer holds its parameters by name and reads them through views. The outermost model lays all
values end to end in one array and all gradients in another, so that an optimizer's step, a norm or
a checkpoint is one pass over one array. Trainable parameters come first: they are what a step
moves. A parameter belongs to one pair of arrays at a time; whoever lays it out last owns it, and
the previous owner notices by its `current` being False.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from .._call import lasting
from .._validation import Array
from ..initializers import Initializer
from ..regularizers import Constraint, Regularizer
from .replay import Watched

Shape: TypeAlias = tuple[int, ...]


class Parameter(Watched):
    """A layer's array of numbers to learn, with its gradient.

    Parameters
    ----------
    name : str
        Within the layer: ``"kernel"``, ``"bias"``.
    initializer : Initializer
        Draws the first values.
    regularizer : Regularizer, optional
        Adds a penalty to the loss of each training step.
    constraint : Constraint, optional
        Changes the values after each training step.

    Attributes
    ----------
    value, grad : ndarray
        Views into the model's flat arrays, or arrays of their own outside a model.
    trainable : bool
        False for a parameter that training leaves alone.
    """

    value: Array
    grad: Array

    def __init__(
        self,
        name: str,
        initializer: Initializer,
        regularizer: Regularizer | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        self.name = name
        self.initializer = initializer
        self.regularizer = regularizer
        self.constraint = constraint
        self.trainable = True
        self.owner: FlatParameters | None = None

    def create(self, shape: Shape, rng: np.random.Generator, dtype: np.dtype[Any]) -> None:
        """Draw first values of that shape."""
        value = self.initializer(shape, dtype, rng)
        if value.shape != shape:
            raise ValueError(
                f"expected {type(self.initializer).__name__} to return shape {shape} for "
                f"{self.name!r}; received {value.shape}"
            )
        self.value = value
        self.grad = np.zeros(shape, dtype)

    def penalty(self) -> float:
        """Return what the regularizer takes for the values."""
        return 0.0 if self.regularizer is None else self.regularizer(self.value)

    def add_penalty_gradient(self) -> None:
        """Add the penalty's gradient to that of the loss."""
        if self.regularizer is not None:
            self.grad += self.regularizer.penalty_and_gradient(self.value)[1]

    def constrain(self) -> None:
        """Change the values into ones that the constraint allows."""
        if self.constraint is not None:
            self.constraint.apply(self.value)

    def disown(self) -> None:
        """Tell the arrays that hold this parameter that they no longer describe it."""
        if self.owner is not None:
            self.owner.current = False
            self.owner = None

    def __getattr__(self, name: str) -> Any:
        # Reached only for attributes that are not there: values before the layer is built.
        if name in ("value", "grad"):
            raise RuntimeError(
                f"expected a built layer; received one whose {self.name!r} has no values yet: "
                "call build(input_shape), or call the layer or fit the model on data first"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __getstate__(self) -> dict[str, Any]:
        # A copy has arrays of its own: sharing the flat ones would tie it to this model.
        return {**self.__dict__, "owner": None}


class FlatParameters:
    """Values and gradients of parameters laid end to end, trainable ones first.

    Parameters
    ----------
    parameters : sequence of Parameter
        Built, in the model's order; their `value` and `grad` become views.
    dtype : dtype

    Attributes
    ----------
    values, gradients : ndarray (P,)
    trained_values, trained_gradients : ndarray (T,)
        The leading part that an optimizer moves.
    trained_sizes : list of int
        How many numbers each parameter has in that part.
    regularized, constrained : list of Parameter
        The trainable ones that have a regularizer, and a constraint.
    current : bool
        False once another model holds a parameter, or one has been frozen or released.
    """

    def __init__(self, parameters: Sequence[Parameter], dtype: np.dtype[Any]) -> None:
        ordered = sorted(parameters, key=lambda parameter: not parameter.trainable)
        size = sum(parameter.value.size for parameter in ordered)
        self.trained_sizes = [parameter.value.size for parameter in ordered if parameter.trainable]
        trained = sum(self.trained_sizes)
        self.values = lasting(size, dtype)
        self.gradients = lasting(size, dtype)
        self.trained_values = self.values[:trained]
        self.trained_gradients = self.gradients[:trained]
        self.current = True
        trainable = [parameter for parameter in ordered if parameter.trainable]
        self.regularized = [parameter for parameter in trainable if parameter.regularizer is not None]
        self.constrained = [parameter for parameter in trainable if parameter.constraint is not None]
        start = 0
        for parameter in ordered:
            stop = start + parameter.value.size
            value = self.values[start:stop].reshape(parameter.value.shape)
            value[...] = parameter.value
            parameter.value = value
            parameter.grad = self.gradients[start:stop].reshape(value.shape)
            parameter.disown()
            parameter.owner = self
            start = stop
