"""How well scores put samples in order."""

from __future__ import annotations

import numpy as np

from .._validation import Array
from .base import Metric, one_hot


class AUC(Metric):
    """Area under the receiver operating characteristic of one output, exact.

    That is how often a positive sample is ranked above a negative one, ties counting half (Hanley and McNeil, 1982).
    It keeps every score until the epoch ends; Keras puts them into 200 bins. Of several outputs, the mean over those
    that have both kinds of samples.

    Examples
    --------
    >>> metric = AUC()
    >>> metric.update_state(np.array([[1.0], [0.0], [1.0]]), np.array([[0.9], [0.8], [0.2]]))
    >>> metric.result()
    0.5
    """

    name = "auc"

    def reset_state(self) -> None:
        """Forget everything seen."""
        self._targets: list[Array] = []
        self._scores: list[Array] = []

    def update_state(self, y_true: Array, y_pred: Array) -> None:
        """Take a batch into account; arguments as in `Metric`."""
        scores = y_pred.reshape(len(y_pred), -1).copy()
        labels = y_true.ndim == 1 and scores.shape[1] > 1
        self._targets.append(one_hot(y_true, scores.shape[1]) if labels else y_true.reshape(scores.shape) > 0.5)
        self._scores.append(scores)

    def result(self) -> float:
        """Return the area so far, NaN where there are no two kinds of samples."""
        if not self._scores:
            return float("nan")
        targets, scores = np.concatenate(self._targets), np.concatenate(self._scores)
        areas = [_area(targets[:, i], scores[:, i]) for i in range(scores.shape[1])]
        known = [area for area in areas if area == area]
        return sum(known) / len(known) if known else float("nan")


def _area(positive: Array, scores: Array) -> float:
    """Return the share of pairs of a positive and a negative that scores rank right, ties half."""
    hits = np.count_nonzero(positive)
    pairs = hits * (len(positive) - hits)
    if not pairs:
        return float("nan")
    _, place, ties = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(ties)  # ranks of equal scores are their mean: last - (ties - 1) / 2
    ranks = (last - (ties - 1) / 2)[place]
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / pairs)
