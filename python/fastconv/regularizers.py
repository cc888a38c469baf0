"""Penalties on weights and limits of them: what a layer's ``kernel_regularizer`` and ``kernel_constraint`` take.

A regularizer adds a penalty to the loss in training, and its gradient to the weight's. A constraint changes weights
after each step. Names, formulas and defaults are Keras's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._config import Configurable, by_name
from ._validation import Array, above_zero, at_least_zero


class Regularizer(Configurable):
    """Base class; a subclass writes `penalty_and_gradient`.

    Examples
    --------
    >>> class Quartic(Regularizer):
    ...     def penalty_and_gradient(self, weight):
    ...         return (weight**4).sum(), 4 * weight**3
    >>> Quartic()(np.array([2.0]))
    16.0
    """

    def penalty_and_gradient(self, weight: Array) -> tuple[float, Array]:
        """Return what a weight costs, and the gradient of that in the weight."""
        raise NotImplementedError(f"{type(self).__name__} must define penalty_and_gradient(weight)")

    def __call__(self, weight: Array) -> float:
        """Return what a weight costs."""
        return float(self.penalty_and_gradient(weight)[0])


class L1L2(Regularizer):
    """``l1 * sum(|w|) + l2 * sum(w^2)``, whose gradient is ``l1 * sign(w) + 2 * l2 * w``.

    Parameters
    ----------
    l1, l2 : float, default 0

    Examples
    --------
    >>> L1L2(l1=0.5, l2=1.0)(np.array([1.0, -2.0]))
    6.5
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1, self.l2 = at_least_zero(l1, "l1"), at_least_zero(l2, "l2")

    def penalty_and_gradient(self, weight: Array) -> tuple[float, Array]:
        """Return both penalties and their gradient."""
        penalty, gradient = 0.0, np.zeros_like(weight)
        if self.l1:
            penalty += self.l1 * float(np.abs(weight).sum(dtype=np.float64))
            gradient += self.l1 * np.sign(weight)
        if self.l2:
            flat = weight.reshape(-1)
            penalty += self.l2 * float(np.einsum("i,i->", flat, flat, dtype=np.float64))
            gradient += 2 * self.l2 * weight
        return penalty, gradient


class L1(L1L2):
    """``l1 * sum(|w|)``, which makes many weights 0 (Tibshirani, 1996).

    Parameters
    ----------
    l1 : float, default 0.01
    """

    def __init__(self, l1: float = 0.01) -> None:
        super().__init__(l1=l1)


class L2(L1L2):
    """``l2 * sum(w^2)``, which keeps weights small (Hoerl and Kennard, 1970).

    Parameters
    ----------
    l2 : float, default 0.01
    """

    def __init__(self, l2: float = 0.01) -> None:
        super().__init__(l2=l2)


class Constraint(Configurable):
    """Base class; a subclass writes `apply`."""

    def apply(self, weight: Array) -> None:
        """Change a weight, in place, into one that is allowed."""
        raise NotImplementedError(f"{type(self).__name__} must define apply(weight)")


class MaxNorm(Constraint):
    """No unit's incoming weights have a norm above `max_value` (Srivastava et al., "Dropout", 2014).

    A unit is one output: a row of a dense kernel, one filter of a convolution.

    Parameters
    ----------
    max_value : float above 0, default 2

    Examples
    --------
    >>> w = np.array([[3.0, 4.0], [0.6, 0.8]])
    >>> MaxNorm(1.0).apply(w)
    >>> w
    array([[0.6, 0.8],
           [0.6, 0.8]])
    """

    def __init__(self, max_value: float = 2.0) -> None:
        self.max_value = above_zero(max_value, "max_value")

    def apply(self, weight: Array) -> None:
        """Scale down the rows that are too long."""
        rows = weight.reshape(len(weight), -1)
        norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
        long = norms > self.max_value
        scale = np.divide(self.max_value, norms, out=np.ones_like(norms), where=long)
        weight *= scale.reshape(-1, *(1,) * (weight.ndim - 1)).astype(weight.dtype)


class NonNegative(Constraint):
    """No weight is negative."""

    def apply(self, weight: Array) -> None:
        """Set negative weights to 0."""
        np.maximum(weight, 0, out=weight)


REGULARIZERS: dict[str, type[Regularizer]] = {"l1": L1, "l2": L2, "l1_l2": L1L2}
CONSTRAINTS: dict[str, type[Constraint]] = {"max_norm": MaxNorm, "non_negative": NonNegative}

__all__ = ["L1", "L1L2", "L2", "Constraint", "MaxNorm", "NonNegative", "Regularizer"]


def get_regularizer(regularizer: Any, argument: str) -> Regularizer | None:
    """Return a regularizer from its name, its class or itself; None stays None. `argument` names it in errors."""
    return None if regularizer is None else by_name(argument, regularizer, Regularizer, REGULARIZERS)


def get_constraint(constraint: Any, argument: str) -> Constraint | None:
    """Return a constraint likewise."""
    return None if constraint is None else by_name(argument, constraint, Constraint, CONSTRAINTS)
