"""Metrics: counts kept over the batches of an epoch.

A metric sees each batch once and keeps two numbers, so an epoch costs no memory. Several threads
need a metric each. ``"accuracy"`` means the accuracy that fits the loss, as in Keras, with one
repair: for a binary loss on logits the threshold is 0, not 0.5.
"""

from __future__ import annotations

import numpy as np

from ._config import Configurable, by_name
from ._validation import Array
from .losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    Loss,
    SparseCategoricalCrossentropy,
)


class Metric(Configurable):
    """Base class: a mean over everything seen since the last reset.

    A subclass writes `count`, which says how much of a batch is right and out of how much.

    Attributes
    ----------
    name : str
        The key in histories and logs.

    Examples
    --------
    >>> class MeanError(Metric):
    ...     name = "mean_error"
    ...
    ...     def count(self, y_true, y_pred):
    ...         return abs(y_pred - y_true).sum(), y_pred.size
    >>> metric = MeanError()
    >>> metric.update_state(np.zeros(2), np.array([1.0, 2.0]))
    >>> metric.result()
    1.5
    """

    name = "metric"

    def __init__(self) -> None:
        self.reset_state()

    def count(self, y_true: Array, y_pred: Array) -> tuple[float, int]:
        """Return the sum of a batch's values and how many they are."""
        raise NotImplementedError(f"{type(self).__name__} must define count(y_true, y_pred)")

    def reset_state(self) -> None:
        """Forget everything seen."""
        self._total = 0.0
        self._seen = 0

    def update_state(self, y_true: Array, y_pred: Array) -> None:
        """Take a batch into account.

        Parameters
        ----------
        y_true : ndarray
            Targets, as the loss prepares them: int64 labels (N,), else the predictions' shape.
        y_pred : ndarray (N, ...)
        """
        total, seen = self.count(y_true, y_pred)
        self._total += total
        self._seen += seen

    def result(self) -> float:
        """Return the mean so far, NaN before the first batch."""
        return float(self._total / self._seen) if self._seen else float("nan")


class BinaryAccuracy(Metric):
    """Share of outputs on the right side of a threshold.

    Parameters
    ----------
    threshold : float, default 0.5
        Predictions above it count as 1. For logits it is 0.

    Examples
    --------
    >>> metric = BinaryAccuracy()
    >>> metric.update_state(np.array([[1.0], [0.0]]), np.array([[0.9], [0.6]]))
    >>> metric.result()
    0.5
    """

    name = "binary_accuracy"

    def __init__(self, threshold: float = 0.5) -> None:
        super().__init__()
        self.threshold = float(threshold)

    def count(self, y_true: Array, y_pred: Array) -> tuple[float, int]:
        """Count outputs on the side of their target."""
        return int(np.count_nonzero((y_pred > self.threshold) == (y_true > 0.5))), y_pred.size


class CategoricalAccuracy(Metric):
    """Share of samples whose largest prediction is their one-hot target's class."""

    name = "categorical_accuracy"

    def count(self, y_true: Array, y_pred: Array) -> tuple[float, int]:
        """Count samples predicted right."""
        return int(np.count_nonzero(y_pred.argmax(1) == y_true.argmax(1))), len(y_pred)


class SparseCategoricalAccuracy(Metric):
    """Share of samples whose largest prediction is their label.

    Examples
    --------
    >>> metric = SparseCategoricalAccuracy()
    >>> metric.update_state(np.array([1, 0]), np.array([[0.2, 0.8], [0.4, 0.6]]))
    >>> metric.result()
    0.5
    """

    name = "sparse_categorical_accuracy"

    def count(self, y_true: Array, y_pred: Array) -> tuple[float, int]:
        """Count samples predicted right."""
        return int(np.count_nonzero(y_pred.argmax(1) == y_true)), len(y_pred)


NAMES: dict[str, type[Metric]] = {
    "binary_accuracy": BinaryAccuracy,
    "categorical_accuracy": CategoricalAccuracy,
    "sparse_categorical_accuracy": SparseCategoricalAccuracy,
}
ACCURACY = ("accuracy", "acc")

__all__ = [
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "Metric",
    "SparseCategoricalAccuracy",
    "accuracy_for",
    "get",
]


def accuracy_for(loss: Loss, output_shape: tuple[int, ...]) -> Metric:
    """Return the accuracy that fits a loss: what ``metrics=["accuracy"]`` means.

    Parameters
    ----------
    loss : Loss
    output_shape : tuple of int
        The model's, without the batch; it decides where the loss leaves it open.

    Examples
    --------
    >>> from fastconv.losses import BinaryCrossentropy
    >>> accuracy_for(BinaryCrossentropy(from_logits=True), (1,))
    BinaryAccuracy(threshold=0.0)
    """
    if isinstance(loss, SparseCategoricalCrossentropy):
        return SparseCategoricalAccuracy()
    if isinstance(loss, CategoricalCrossentropy):
        return CategoricalAccuracy()
    if isinstance(loss, BinaryCrossentropy):
        return BinaryAccuracy(0.0 if loss.from_logits else 0.5)
    return BinaryAccuracy() if output_shape[-1:] == (1,) else CategoricalAccuracy()


def get(metric: str | Metric | type[Metric]) -> Metric:
    """Return a metric from its name, its class or itself.

    Examples
    --------
    >>> get("binary_accuracy")
    BinaryAccuracy(threshold=0.5)
    """
    return by_name("metric", metric, Metric, NAMES)
