"""Shares of what is right."""

from __future__ import annotations

import numpy as np

from .._shapes import integer
from .._validation import Array
from .base import Metric


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


class TopKCategoricalAccuracy(Metric):
    """Share of samples whose one-hot target's class is among the k largest predictions.

    A tie counts for the class with the lower number.

    Parameters
    ----------
    k : int, at least 1, default 5

    Examples
    --------
    >>> metric = TopKCategoricalAccuracy(k=2)
    >>> metric.update_state(np.eye(3)[[0, 2]], np.array([[0.3, 0.1, 0.6], [0.5, 0.3, 0.2]]))
    >>> metric.result()
    0.5
    """

    name = "top_k_categorical_accuracy"

    def __init__(self, k: int = 5) -> None:
        super().__init__()
        self.k = integer(k, "k", 1)

    def count(self, y_true: Array, y_pred: Array) -> tuple[float, int]:
        """Count samples whose class is among the first k."""
        return self._among_first(y_true.argmax(1), y_pred)

    def _among_first(self, labels: Array, y_pred: Array) -> tuple[float, int]:
        own = np.take_along_axis(y_pred, labels[:, np.newaxis], axis=1)
        before = np.arange(y_pred.shape[1]) < labels[:, np.newaxis]
        rank = ((y_pred > own) | ((y_pred == own) & before)).sum(axis=1)
        right = (rank < self.k) & ~np.isnan(own[:, 0])
        return int(np.count_nonzero(right)), len(y_pred)


class SparseTopKCategoricalAccuracy(TopKCategoricalAccuracy):
    """Share of samples whose label is among the k largest predictions.

    Parameters
    ----------
    k : int, at least 1, default 5
    """

    name = "sparse_top_k_categorical_accuracy"

    def count(self, y_true: Array, y_pred: Array) -> tuple[float, int]:
        """Count samples whose label is among the first k."""
        return self._among_first(y_true, y_pred)
