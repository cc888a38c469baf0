"""Losses: the value and its gradient in the predictions, computed side by side.

A loss is a mean over samples (and over a sample's outputs), each sample multiplied by its weight:
``sum(w_i * loss_i) / N``, Keras's ``sum_over_batch_size``. One pass gives both numbers, because
they share their expensive part. Targets are checked and converted once, by `prepare_targets`;
`compute` then trusts them, and takes its arrays from the step's arena.

Cross-entropies take logits or probabilities. Logits are exact everywhere. Probabilities are
clipped only where their logarithm would overflow, 1e-30 in float32 and 1e-300 in float64, where
Keras clips at 1e-7: a confident mistake keeps its gradient.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import ops
from ._call import are_labels, empty
from ._config import Configurable, by_name
from ._validation import Array

ValueAndGradient: TypeAlias = tuple[float, Array]


class Loss(Configurable):
    """Base class; a subclass writes `compute`, and `prepare_targets` if targets need checks.

    Examples
    --------
    >>> class MeanAbsoluteError(Loss):
    ...     def compute(self, y_true, y_pred, sample_weight):
    ...         difference = y_pred - y_true
    ...         return abs(difference).mean(), np.sign(difference) / difference.size
    >>> MeanAbsoluteError()([[1.0, 2.0]], np.array([[1.5, 2.0]]))
    0.25
    """

    def compute(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> ValueAndGradient:
        """Return the loss and its gradient in `y_pred`.

        Parameters
        ----------
        y_true : ndarray
            What `prepare_targets` returned.
        y_pred : ndarray (N, ...)
        sample_weight : ndarray (N,) of y_pred's dtype, or None

        Returns
        -------
        value : float
        gradient : ndarray of y_pred's shape
        """
        raise NotImplementedError(f"{type(self).__name__} must define compute(...)")

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
    ) -> ValueAndGradient:
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
        value : float
        gradient : ndarray of y_pred's shape and dtype
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
        value, gradient = self.compute(targets, y_pred, weight)
        return float(value), gradient

    def __call__(self, y_true: ArrayLike, y_pred: Array, sample_weight: ArrayLike | None = None) -> float:
        """Return the value of the loss; arguments as `value_and_gradient`."""
        return self.value_and_gradient(y_true, y_pred, sample_weight)[0]


class MeanSquaredError(Loss):
    """``mean((y_pred - y_true)^2)``, gradient ``2 (y_pred - y_true) / size``.

    Examples
    --------
    >>> MeanSquaredError()([[0.0, 1.0]], np.array([[0.5, 1.0]]))
    0.125
    """

    def compute(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> ValueAndGradient:
        """Return the mean square and its gradient."""
        difference = np.subtract(y_pred, y_true, out=empty(y_pred.shape, y_pred.dtype))
        # Squares in float64: those of float32 numbers above 1.8e19 overflow.
        squares = empty(y_pred.shape, np.dtype(np.float64))
        np.multiply(difference, difference, out=squares, dtype=np.float64)
        value = _weighted_mean(squares, sample_weight)
        return value, _scale(difference, 2.0, sample_weight)


class CrossEntropy(Loss):
    """Base of the cross-entropies: says whether predictions are logits or probabilities.

    Parameters
    ----------
    from_logits : bool, optional
        True if predictions are logits, False if they are probabilities. Left open, ``compile``
        sets it from the model's last layer; a loss called on its own then takes probabilities.
    """

    activation = "softmax"
    """What turns logits into probabilities, for ``compile`` to look for."""

    def __init__(self, from_logits: bool | None = None) -> None:
        if from_logits is not None and not isinstance(from_logits, bool):
            raise TypeError(f"expected from_logits to be True or False; received {from_logits!r}")
        self.from_logits = from_logits

    def compute(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> ValueAndGradient:
        """Return the cross-entropy and its gradient."""
        if self.from_logits:
            return self._from_logits(y_true, y_pred, sample_weight)
        return self._from_probabilities(y_true, y_pred, sample_weight)

    def _from_logits(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> ValueAndGradient:
        raise NotImplementedError

    def _from_probabilities(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> ValueAndGradient:
        raise NotImplementedError


class BinaryCrossentropy(CrossEntropy):
    """``-t log(p) - (1 - t) log(1 - p)``, mean over samples and outputs; ``p = sigmoid(logit)``.

    Parameters
    ----------
    from_logits : bool, optional
        As in `CrossEntropy`. The gradient in a logit is ``(p - t) / size``.

    Examples
    --------
    >>> loss = BinaryCrossentropy(from_logits=True)
    >>> value, gradient = loss.value_and_gradient([[1.0], [0.0]], np.array([[0.0], [0.0]]))
    >>> round(value, 6), gradient.ravel()
    (0.693147, array([-0.25,  0.25]))
    """

    activation = "sigmoid"

    def prepare_targets(self, y: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Check that targets lie between 0 and 1."""
        y = super().prepare_targets(y, shape, dtype)
        _check_probabilities(y, "binary_crossentropy")
        return y

    def _from_logits(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> ValueAndGradient:
        # max(z, 0) - z t + log(1 + exp(-|z|)): no exponential overflows.
        losses = np.abs(y_pred, out=empty(y_pred.shape, y_pred.dtype))
        np.negative(losses, out=losses)
        np.exp(losses, out=losses)
        np.log1p(losses, out=losses)
        work = np.maximum(y_pred, 0, out=empty(y_pred.shape, y_pred.dtype))
        losses += work
        losses -= np.multiply(y_pred, y_true, out=work)
        gradient = ops.sigmoid(y_pred)
        gradient -= y_true
        return _weighted_mean(losses, sample_weight), _scale(gradient, 1.0, sample_weight)

    def _from_probabilities(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> ValueAndGradient:
        almost_one = 1 - float(np.finfo(y_pred.dtype).epsneg)
        p = np.clip(y_pred, _floor(y_pred), almost_one, out=empty(y_pred.shape, y_pred.dtype))
        losses = np.log(p, out=empty(p.shape, p.dtype))
        losses *= y_true
        work = np.negative(p, out=empty(p.shape, p.dtype))
        complement = np.add(work, 1, out=empty(p.shape, p.dtype))
        np.log1p(work, out=work)
        losses += work
        losses -= np.multiply(work, y_true, out=work)
        value = -_weighted_mean(losses, sample_weight)
        gradient = np.subtract(p, y_true, out=work)
        gradient /= np.multiply(p, complement, out=p)
        return value, _scale(gradient, 1.0, sample_weight)


class CategoricalCrossentropy(CrossEntropy):
    """``-sum_k t_k log(p_k)``, mean over samples; targets are one-hot or any distribution.

    Parameters
    ----------
    from_logits : bool, optional
        As in `CrossEntropy`. The gradient in the logits is ``(p sum(t) - t) / N``. Probabilities
        are taken as they are: they are not divided by their sum.

    Examples
    --------
    >>> round(CategoricalCrossentropy()([[0.0, 1.0]], np.array([[0.5, 0.5]])), 6)
    0.693147
    """

    def prepare_targets(self, y: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Check that targets are distributions over the classes."""
        _check_classes(shape, "categorical_crossentropy")
        if y.ndim == 1:
            raise ValueError(
                f"expected y of shape {shape}, one column a class; received {y.shape}: integer "
                "labels go with loss='sparse_categorical_crossentropy'"
            )
        y = super().prepare_targets(y, shape, dtype)
        _check_probabilities(y, "categorical_crossentropy")
        return y

    def _from_logits(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> ValueAndGradient:
        samples = len(y_pred)
        logs = empty(y_pred.shape, y_pred.dtype)
        np.subtract(y_pred, y_pred.max(axis=1, keepdims=True), out=logs)
        gradient = np.exp(logs, out=empty(y_pred.shape, y_pred.dtype))
        total = gradient.sum(axis=1, keepdims=True)
        logs -= np.log(total)
        # A logit of -inf whose target is 0 costs nothing; -inf * 0 would be NaN.
        np.maximum(logs, np.finfo(logs.dtype).min, out=logs)
        logs *= y_true
        gradient *= y_true.sum(axis=1, keepdims=True) / total
        gradient -= y_true
        value = -_weighted_mean(logs, sample_weight) * (logs.size / samples)
        return value, _scale(gradient, logs.size / samples, sample_weight)

    def _from_probabilities(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> ValueAndGradient:
        classes = y_pred.size / len(y_pred)
        p = np.maximum(y_pred, _floor(y_pred), out=empty(y_pred.shape, y_pred.dtype))
        logs = np.log(p, out=empty(p.shape, p.dtype))
        logs *= y_true
        value = -_weighted_mean(logs, sample_weight) * classes
        gradient = np.divide(y_true, p, out=p)
        return value, _scale(gradient, -classes, sample_weight)


class SparseCategoricalCrossentropy(CrossEntropy):
    """``-log(p[label])``, mean over samples; targets are integer labels.

    Parameters
    ----------
    from_logits : bool, optional
        As in `CrossEntropy`. The gradient in the logits is ``(p - onehot(label)) / N``.

    Examples
    --------
    >>> loss = SparseCategoricalCrossentropy(from_logits=True)
    >>> round(loss([2, 0], np.zeros((2, 4))), 6)
    1.386294
    """

    def prepare_targets(self, y: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Check that targets are labels 0 .. classes - 1 and convert them to int64."""
        _check_classes(shape, "sparse_categorical_crossentropy")
        samples, classes = shape
        if are_labels(y, samples, classes):
            return y
        if y.shape == shape and classes > 1:
            raise ValueError(
                f"expected y of shape ({samples},) with integer labels; received {y.shape}: "
                "one-hot rows go with loss='categorical_crossentropy'"
            )
        labels = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        if labels.shape != (samples,):
            raise ValueError(f"expected y of shape ({samples},); received {y.shape}")
        valid = (labels >= 0) & (labels < classes)
        if labels.dtype.kind == "f":
            valid &= labels == np.floor(labels)
        if not valid.all():
            index = int(np.argmin(valid))
            raise ValueError(
                f"expected labels 0 to {classes - 1}, for the model's {classes} outputs; received "
                f"{labels[index]} at index {index}"
            )
        return np.ascontiguousarray(labels, dtype=np.int64)

    def _from_logits(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> ValueAndGradient:
        return ops.softmax_cross_entropy(y_pred, y_true, sample_weight=sample_weight)

    def _from_probabilities(self, y_true: Array, y_pred: Array, sample_weight: Array | None) -> ValueAndGradient:
        rows = np.arange(len(y_true))
        p = np.maximum(y_pred[rows, y_true], _floor(y_pred))
        value = -_weighted_mean(np.log(p), sample_weight)
        gradient = empty(y_pred.shape, y_pred.dtype)
        gradient.fill(0)
        gradient[rows, y_true] = _scale(1 / p, -1.0, sample_weight)
        return value, gradient


def _floor(probabilities: Array) -> float:
    return 1e-30 if probabilities.dtype == np.float32 else 1e-300


def _weighted_mean(losses: Array, sample_weight: Array | None) -> float:
    """Mean in float64; weights are multiplied into `losses`, which the caller gives up."""
    if sample_weight is not None:
        losses *= _column(sample_weight, losses.ndim)
    return float(np.add.reduce(losses, axis=None, dtype=np.float64)) / losses.size


def _scale(gradient: Array, factor: float, sample_weight: Array | None) -> Array:
    """Multiply, in place, by ``factor / size`` and the weights: a gradient of the mean."""
    gradient *= factor / gradient.size
    if sample_weight is not None:
        gradient *= _column(sample_weight, gradient.ndim)
    return gradient


def _column(sample_weight: Array, ndim: int) -> Array:
    return sample_weight.reshape(-1, *(1,) * (ndim - 1))


def _check_classes(shape: tuple[int, ...], loss: str) -> None:
    if len(shape) != 2:
        raise ValueError(
            f"expected predictions of shape (N, classes) for loss={loss!r}; received {shape}: "
            "end the model in Flatten() or GlobalAvgPool2D(), then Dense(classes)"
        )


def _check_probabilities(y: Array, loss: str) -> None:
    low, high = float(y.min(initial=0)), float(y.max(initial=0))
    if not (low >= 0 and high <= 1 and math.isfinite(low + high)):
        raise ValueError(f"expected y between 0 and 1 for loss={loss!r}; received values from {low} to {high}")


NAMES: dict[str, type[Loss]] = {
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "binary_crossentropy": BinaryCrossentropy,
    "categorical_crossentropy": CategoricalCrossentropy,
    "sparse_categorical_crossentropy": SparseCategoricalCrossentropy,
}

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "CrossEntropy",
    "Loss",
    "MeanSquaredError",
    "SparseCategoricalCrossentropy",
    "get",
]


def get(loss: str | Loss | type[Loss]) -> Loss:
    """Return a loss from its name, its class or itself.

    Examples
    --------
    >>> get("mse")
    MeanSquaredError()
    """
    return by_name("loss", loss, Loss, NAMES)
