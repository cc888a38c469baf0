"""How far numbers are from their targets."""

from __future__ import annotations

import math

import numpy as np

from .._validation import Array
from .base import Metric


class MeanSquaredError(Metric):
    """Mean square of prediction minus target, over all outputs."""

    name = "mean_squared_error"

    def count(self, y_true: Array, y_pred: Array) -> tuple[float, int]:
        """Add up squares."""
        return float(np.square(y_pred.astype(np.float64) - y_true).sum()), y_pred.size


class RootMeanSquaredError(MeanSquaredError):
    """Root of the mean square of prediction minus target."""

    name = "root_mean_squared_error"

    def result(self) -> float:
        """Return the root of the mean so far."""
        return math.sqrt(super().result())


class MeanAbsoluteError(Metric):
    """Mean size of prediction minus target, over all outputs."""

    name = "mean_absolute_error"

    def count(self, y_true: Array, y_pred: Array) -> tuple[float, int]:
        """Add up distances."""
        return float(np.abs(y_pred.astype(np.float64) - y_true).sum()), y_pred.size


class R2Score(Metric):
    """``1 - sum((y - y_pred)^2) / sum((y - mean(y))^2)``: the share of the targets' variance that is explained.

    The mean over outputs, as scikit-learn has it. Where targets do not vary it is 1 if all are met and 0 if not.

    Examples
    --------
    >>> metric = R2Score()
    >>> metric.update_state(np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [2.0], [2.0]]))
    >>> metric.result()
    0.5
    """

    name = "r2_score"

    def reset_state(self) -> None:
        """Forget everything seen."""
        self._seen = 0
        self._mean: Array | float = 0.0
        self._spread: Array | float = 0.0
        self._missed: Array | float = 0.0

    def update_state(self, y_true: Array, y_pred: Array) -> None:
        """Take a batch into account; arguments as in `Metric`."""
        outputs = y_pred.reshape(len(y_pred), -1).astype(np.float64)
        targets = y_true.reshape(outputs.shape).astype(np.float64)
        # Means and spreads of two parts joined (Chan, Golub and LeVeque, 1979): sums of squares would cancel.
        size, mean = len(targets), targets.mean(axis=0)
        total = self._seen + size
        apart = mean - self._mean
        self._spread = self._spread + np.square(targets - mean).sum(axis=0) + apart**2 * (self._seen * size / total)
        self._mean = self._mean + apart * (size / total)
        self._missed = self._missed + np.square(targets - outputs).sum(axis=0)
        self._seen = total

    def result(self) -> float:
        """Return the score so far, NaN before the first batch."""
        if not self._seen:
            return float("nan")
        spread, missed = np.atleast_1d(self._spread), np.atleast_1d(self._missed)
        flat = spread == 0
        scores = np.where(flat, (missed == 0).astype(float), 1 - missed / np.where(flat, 1, spread))
        return float(scores.mean())
