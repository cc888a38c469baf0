"""A metric: numbers kept over the batches of an epoch."""

from __future__ import annotations

import numpy as np

from .._config import Configurable
from .._validation import Array


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

    from_logits: bool | None = False
    """Whether outputs are logits; None leaves that to ``compile``."""

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


def one_hot(labels: Array, classes: int) -> Array:
    """Return a row of bool for each label."""
    rows: Array = np.asarray(labels)[:, np.newaxis] == np.arange(classes)
    return rows
