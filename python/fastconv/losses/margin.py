"""Losses of the margin: how far a score lies on the right side."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from .._validation import Array
from .base import Loss, mean_of_outputs, outputs, work
from .crossentropy import check_classes, check_probabilities


class Margin(Loss):
    """Base of the losses of ``t y``, where t is 1 or -1. Targets of 0 and 1 are taken for -1 and 1, as in Keras."""

    def prepare_targets(self, y: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Check that targets are -1 and 1, or 0 and 1."""
        y = super().prepare_targets(y, shape, dtype)
        for low in (-1, 0):
            if np.isin(y, (low, 1)).all():
                return y if low else 2 * y - 1
        raise ValueError(f"expected y of -1 and 1, or of 0 and 1; received {np.unique(y)[:5].tolist()} among others")


class Hinge(Margin):
    """``mean(max(1 - t y, 0))``: the loss of support vector machines.

    Parameters
    ----------
    reduction
        As in `Loss`.

    Examples
    --------
    >>> Hinge()([[1.0, -1.0]], np.array([[0.5, 0.25]]))
    0.875
    """

    def per_sample(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        """Return mean losses and their gradients."""
        missing = _missing(y_true, y_pred)
        gradient = np.multiply(y_true, missing > 0, out=work(y_pred))
        gradient *= -1 / outputs(y_pred)
        return mean_of_outputs(missing), gradient


class SquaredHinge(Margin):
    """``mean(max(1 - t y, 0)^2)``.

    Parameters
    ----------
    reduction
        As in `Loss`.

    Examples
    --------
    >>> SquaredHinge()([[1.0, -1.0]], np.array([[0.5, 0.25]]))
    0.90625
    """

    def per_sample(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        """Return mean losses and their gradients."""
        missing = _missing(y_true, y_pred)
        gradient = np.multiply(y_true, missing, out=work(y_pred))
        gradient *= -2 / outputs(y_pred)
        return mean_of_outputs(missing.astype(np.float64) ** 2), gradient


class Exponential(Margin):
    """``mean(exp(-t y))``: the loss that AdaBoost lowers (Friedman, Hastie and Tibshirani, 2000).

    Parameters
    ----------
    reduction
        As in `Loss`.

    Examples
    --------
    >>> round(Exponential()([[1.0]], np.array([[1.0]])), 6)
    0.367879
    """

    def per_sample(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        """Return mean losses and their gradients."""
        margin = np.multiply(y_true, y_pred, dtype=np.float64)
        with np.errstate(over="ignore"):  # infinity is what it is
            losses = np.exp(-margin)
            gradient = (losses * y_true).astype(y_pred.dtype)
        gradient *= -1 / outputs(y_pred)
        return mean_of_outputs(losses), gradient


class CategoricalHinge(Loss):
    """``max(1 + (largest wrong score) - (right score), 0)`` of each sample; targets are one-hot.

    As in Keras: the wrong scores are those multiplied by ``1 - t``, so that a 0 stands among them for the right one.

    Parameters
    ----------
    reduction
        As in `Loss`.

    Examples
    --------
    >>> CategoricalHinge()([[0.0, 1.0, 0.0]], np.array([[0.5, 1.0, 0.0]]))
    0.5
    """

    def prepare_targets(self, y: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Check that targets are distributions over the classes."""
        check_classes(shape, "categorical_hinge")
        y = super().prepare_targets(y, shape, dtype)
        check_probabilities(y, "categorical_hinge")
        return y

    def per_sample(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        """Return losses and their gradients."""
        rows = np.arange(len(y_pred))
        gradient = np.subtract(1, y_true, out=work(y_pred))
        wrong = gradient * y_pred
        largest = wrong.argmax(axis=1)
        losses = 1 + wrong[rows, largest] - (y_true * y_pred).sum(axis=1)
        slope = gradient[rows, largest]
        np.negative(y_true, out=gradient)
        gradient[rows, largest] += slope
        gradient *= (losses > 0)[:, np.newaxis]
        return np.maximum(losses, 0), gradient


def _missing(y_true: Array, y_pred: Array) -> Array:
    """Return by how much margins fall short of 1."""
    missing = np.multiply(y_true, y_pred, out=work(y_pred))
    np.subtract(1, missing, out=missing)
    return np.maximum(missing, 0, out=missing)
