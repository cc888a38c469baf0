"""What is made of each class's hits, false alarms and misses."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .._config import Configurable, options, suggestion
from .._shapes import integer
from .._validation import Array
from .base import Metric, one_hot


class _PerClass(Metric):
    """Base of what is made of each class's hits, false alarms and misses.

    Parameters
    ----------
    average : {"macro", "micro", "weighted"}
        The mean over classes; one figure of all classes' counts; the mean weighted by how often classes occur.
    threshold : float, optional
        Every output above it counts as predicted, so that a sample may have several classes. Left open, a sample
        has the class of its largest output; one output alone counts above 0.5, or above 0 if it is a logit.
    from_logits : bool, optional
        Whether one output alone is a logit; left open, ``compile`` sets it from the loss.
    """

    AVERAGES = ("macro", "micro", "weighted")

    def __init__(self, average: str = "macro", threshold: float | None = None, from_logits: bool | None = None) -> None:
        if average not in self.AVERAGES:
            raise ValueError(
                f"expected average to be {options(self.AVERAGES)}; received {average!r}"
                f"{suggestion(str(average), self.AVERAGES)}"
            )
        self.average = average
        self.threshold = None if threshold is None else float(threshold)
        self.from_logits = from_logits
        super().__init__()

    def reset_state(self) -> None:
        """Forget everything seen."""
        self._hits = self._predicted = self._actual = np.zeros(0, np.int64)

    def update_state(self, y_true: Array, y_pred: Array) -> None:
        """Take a batch into account; arguments as in `Metric`."""
        outputs = y_pred.reshape(len(y_pred), -1)
        classes = outputs.shape[1]
        labels = y_true.ndim == 1 and classes > 1
        truth = y_true if labels else y_true.reshape(len(y_true), -1)
        if classes > 1 and self.threshold is None:
            said = one_hot(outputs.argmax(1), classes)
            there = one_hot(truth if labels else truth.argmax(1), classes)
        else:
            cut = (0.0 if self.from_logits else 0.5) if self.threshold is None else self.threshold
            said, there = outputs > cut, one_hot(truth, classes) if labels else truth > 0.5
        counts = (np.count_nonzero(said & there, axis=0), np.count_nonzero(said, axis=0))
        if not len(self._hits):
            self._hits = self._predicted = self._actual = np.zeros(classes, np.int64)
        self._hits = self._hits + counts[0]
        self._predicted = self._predicted + counts[1]
        self._actual = self._actual + np.count_nonzero(there, axis=0)

    def figure(self, hits: Array, predicted: Array, actual: Array) -> Array:
        """Return the figure from counts: of hits, of predictions, of targets."""
        raise NotImplementedError

    def per_class(self) -> Array:
        """Return each class's figure; 0 where nothing was there to count."""
        return self.figure(self._hits, self._predicted, self._actual)

    def result(self) -> float:
        """Return the average so far, NaN before the first batch."""
        if not len(self._hits):
            return float("nan")
        if self.average == "micro":
            return float(self.figure(*(c.sum(keepdims=True) for c in (self._hits, self._predicted, self._actual)))[0])
        if self.average == "weighted":
            return float(_ratio(self.per_class() @ self._actual, self._actual.sum()))
        return float(self.per_class().mean())


class Precision(_PerClass):
    """Hits over predictions: how much of what was said is true.

    Parameters
    ----------
    average : {"macro", "micro", "weighted"}, default "macro"
    threshold, from_logits
        As the model's outputs are to be read: see `F1Score`.

    Examples
    --------
    >>> metric = Precision()
    >>> metric.update_state(np.array([[1.0], [0.0], [1.0]]), np.array([[0.9], [0.8], [0.2]]))
    >>> metric.result()
    0.5
    """

    name = "precision"

    def figure(self, hits: Array, predicted: Array, actual: Array) -> Array:
        """Return hits over predictions."""
        return _ratio(hits, predicted)


class Recall(_PerClass):
    """Hits over targets: how much of what is true was said.

    Parameters
    ----------
    average : {"macro", "micro", "weighted"}, default "macro"
    threshold, from_logits
        As the model's outputs are to be read: see `F1Score`.

    Examples
    --------
    >>> metric = Recall()
    >>> metric.update_state(np.array([0, 1, 1, 1]), np.eye(2)[[0, 1, 0, 0]])
    >>> metric.per_class().round(4)
    array([1.    , 0.3333])
    """

    name = "recall"

    def figure(self, hits: Array, predicted: Array, actual: Array) -> Array:
        """Return hits over targets."""
        return _ratio(hits, actual)


class F1Score(_PerClass):
    """Harmonic mean of precision and recall, ``2 hits / (predictions + targets)``.

    Parameters
    ----------
    average : {"macro", "micro", "weighted"}, default "macro"
        The mean over classes; one figure of all classes' counts, which is the accuracy where a sample has one class;
        the mean weighted by how often classes occur. `per_class` has all of them. Of one output alone, the figure of
        the class 1.
    threshold : float, optional
        Every output above it counts as predicted, so that a sample may have several classes. Left open, a sample
        has the class of its largest output; one output alone counts above 0.5, or above 0 if it is a logit.
    from_logits : bool, optional
        Whether one output alone is a logit; left open, ``compile`` sets it from the loss.

    Examples
    --------
    >>> metric = F1Score(average="micro")
    >>> metric.update_state(np.array([0, 1, 2, 2]), np.eye(3)[[0, 2, 2, 2]])
    >>> metric.result()
    0.75
    """

    name = "f1_score"

    def figure(self, hits: Array, predicted: Array, actual: Array) -> Array:
        """Return the harmonic means."""
        return _ratio(2 * hits, predicted + actual)


class ConfusionMatrix(Configurable):
    """How often each class (row) was taken for each class (column), over batches.

    Not a number, and so nothing for ``compile``: `update_state` takes labels, or outputs of a model.

    Parameters
    ----------
    classes : int, at least 2

    Examples
    --------
    >>> matrix = ConfusionMatrix(3)
    >>> matrix.update_state([0, 1, 2, 2], [0, 2, 2, 1])
    >>> matrix.result()
    array([[1, 0, 0],
           [0, 0, 1],
           [0, 1, 1]])
    """

    def __init__(self, classes: int) -> None:
        self.classes = integer(classes, "classes", 2)
        self.reset_state()

    def reset_state(self) -> None:
        """Forget everything seen."""
        self._counts: Array = np.zeros((self.classes, self.classes), np.int64)

    def update_state(self, y_true: ArrayLike, y_pred: ArrayLike) -> None:
        """Take a batch into account.

        Parameters
        ----------
        y_true, y_pred : array_like (N,) of labels, or (N, classes) of which the largest is the class

        Raises
        ------
        ValueError
            For labels that are no class, or two lengths.
        """
        rows, columns = (self._labels(y, name) for y, name in ((y_true, "y_true"), (y_pred, "y_pred")))
        if len(rows) != len(columns):
            raise ValueError(f"expected as many predictions as targets; received {len(columns)} and {len(rows)}")
        np.add.at(self._counts, (rows, columns), 1)

    def result(self) -> Array:
        """Return the counts so far, int64 (classes, classes)."""
        return self._counts.copy()

    def _labels(self, y: ArrayLike, name: str) -> Array:
        array = np.asarray(y)
        if array.ndim == 2 and array.shape[1] == self.classes:
            return np.asarray(array.argmax(1))
        whole = array.dtype.kind in "iub" or (array.dtype.kind == "f" and (array == np.floor(array)).all())
        if array.ndim != 1 or not whole or ((array < 0) | (array >= self.classes)).any():
            raise ValueError(
                f"expected {name} to be labels 0 to {self.classes - 1}, or rows of {self.classes} outputs; "
                f"received shape {array.shape}, {array.dtype}"
            )
        return array.astype(np.int64)


def _ratio(part: Array, whole: Array) -> Array:
    """Return part / whole, 0 where there is no whole."""
    shares: Array = np.divide(part, whole, out=np.zeros(np.shape(part)), where=np.asarray(whole) != 0)
    return shares
