"""What all losses share: checks, weights, the reduction to one number, and its gradient."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .._call import empty
from .._config import Configurable, options, suggestion
from .._validation import Array

ValueAndGradient: TypeAlias = tuple[float, Array]

REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "none")


class Loss(Configurable):
    """Base class; a subclass writes `per_sample`, and `prepare_targets` if targets need checks.

    Parameters
    ----------
    reduction : {"sum_over_batch_size", "mean", "sum", "none"}
        What becomes of the losses of the samples, each multiplied by its weight: their sum over N (under both of
        the first two names), their sum, or the losses themselves. Training needs one number.

    Examples
    --------
    >>> class Misses(Loss):
    ...     def per_sample(self, y_true, y_pred):
    ...         difference = y_pred - y_true
    ...         return abs(difference).sum(axis=1), np.sign(difference)
    >>> Misses()([[1.0, 2.0], [3.0, 3.0]], np.array([[1.5, 2.0], [3.0, 4.5]]))
    1.0
    """

    reduction = "sum_over_batch_size"

    def __init__(self, reduction: str = "sum_over_batch_size") -> None:
        if not isinstance(reduction, str):
            raise TypeError(f"expected reduction to be {options(REDUCTIONS)}; received {reduction!r}")
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"expected reduction to be {options(REDUCTIONS)}; received {reduction!r}"
                f"{suggestion(reduction, REDUCTIONS)}"
            )
        self.reduction = reduction

    def per_sample(self, y_true: Array, y_pred: Array) -> tuple[Array, Array]:
        """Return the loss of each sample and its gradient in that sample's predictions.

        Parameters
        ----------
        y_true : ndarray
            What `prepare_targets` returned.
        y_pred : ndarray (N, ...)

        Returns
        -------
        losses : ndarray (N,)
        gradient : ndarray of y_pred's shape
            An array of its own: the caller writes into it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define per_sample(y_true, y_pred)")

    def compute(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> ValueAndGradient:
        """Return the mean over samples and its gradient in `y_pred`, as training needs them.

        Parameters
        ----------
        y_true, y_pred
            As in `per_sample`.
        sample_weight : ndarray (N,) of y_pred's dtype, or None

        Returns
        -------
        value : float
        gradient : ndarray of y_pred's shape
        """
        losses, gradient = self.per_sample(y_true, y_pred)
        if sample_weight is not None:
            losses = losses * sample_weight
            gradient *= column(sample_weight, gradient.ndim)
        gradient /= len(y_pred)
        return float(np.add.reduce(losses, dtype=np.float64)) / len(y_pred), gradient

    def reduced(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> ValueAndGradient:
        """Return the mean or, where `reduction` says so, the sum over samples, and its gradient; as `compute`."""
        value, gradient = self.compute(y_true, y_pred, sample_weight)
        if self.reduction == "sum":
            gradient *= len(y_pred)
            value *= len(y_pred)
        return float(value), gradient

    def prepare_targets(self, y: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Check targets for predictions of `shape` (N, ...) and convert them to `dtype`.

        A trailing axis of length 1 may be left out, as in Keras.
        """
        expanded = y[:, np.newaxis] if len(shape) == 2 and shape[1] == 1 and y.ndim == 1 else y
        if expanded.shape != shape:
            raise ValueError(f"expected y of shape {shape}, the shape of the predictions; received {y.shape}")
        return expanded.astype(dtype, copy=False)

    def value_and_gradient(
        self, y_true: ArrayLike, y_pred: Array, sample_weight: ArrayLike | None = None
    ) -> tuple[Any, Array]:
        """Check the arguments, then return the loss and its gradient in `y_pred`.

        Parameters
        ----------
        y_true : array_like (N, ...)
            Targets.
        y_pred : ndarray (N, ...), float32 or float64
            Predictions.
        sample_weight : array_like (N,), optional

        Returns
        -------
        value : float, or ndarray (N,) where `reduction` is "none"
        gradient : ndarray of y_pred's shape and dtype
            Of the value; where `reduction` is "none", of the values' sum.
        """
        if not isinstance(y_pred, np.ndarray) or y_pred.dtype not in (np.float32, np.float64):
            raise TypeError(
                "expected y_pred to be a float32 or float64 array; received "
                f"{getattr(y_pred, 'dtype', type(y_pred).__name__)}"
            )
        if y_pred.size == 0:
            raise ValueError(f"expected at least one prediction; received shape {y_pred.shape}")
        targets = self.prepare_targets(np.asarray(y_true), y_pred.shape, y_pred.dtype)
        weight = None
        if sample_weight is not None:
            weight = np.asarray(sample_weight, y_pred.dtype)
            if weight.shape != y_pred.shape[:1]:
                raise ValueError(f"expected sample_weight of shape {y_pred.shape[:1]}; received {weight.shape}")
        if self.reduction == "none":
            losses, gradient = self.per_sample(targets, y_pred)
            if weight is None:
                return losses, gradient
            return losses * weight, np.multiply(gradient, column(weight, gradient.ndim), out=gradient)
        return self.reduced(targets, y_pred, weight)

    def __call__(self, y_true: ArrayLike, y_pred: Array, sample_weight: ArrayLike | None = None) -> Any:
        """Return the value of the loss; arguments as `value_and_gradient`."""
        return self.value_and_gradient(y_true, y_pred, sample_weight)[0]


def work(like: Array) -> Array:
    """Return an array of that shape and dtype from the step's arena."""
    return empty(like.shape, like.dtype)


def mean_of_outputs(losses: Array) -> Array:
    """Return each sample's mean over its outputs, in float64."""
    each: Array = losses.reshape(len(losses), -1).mean(axis=1, dtype=np.float64)
    return each


def outputs(y_pred: Array) -> int:
    """Return the number of outputs of a sample."""
    return y_pred.size // len(y_pred)


def column(sample_weight: Array, ndim: int) -> Array:
    """Return weights that multiply along the first of `ndim` axes."""
    return sample_weight.reshape(-1, *(1,) * (ndim - 1))
