"""Metrics: numbers kept over the batches of an epoch.

A metric sees each batch once, and most keep a few numbers, so that an epoch costs no memory. Several threads
need a metric each. ``"accuracy"`` means the accuracy that fits the loss, as in Keras, with one
repair: for a binary loss on logits the threshold is 0, not 0.5.
"""

from __future__ import annotations

from .._config import by_name
from ..losses import BinaryCrossentropy, CategoricalCrossentropy, Loss, SparseCategoricalCrossentropy
from .accuracy import (
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
)
from .base import Metric
from .per_class import ConfusionMatrix, F1Score, Precision, Recall
from .ranking import AUC
from .regression import MeanAbsoluteError, MeanSquaredError, R2Score, RootMeanSquaredError

NAMES: dict[str, type[Metric]] = {
    "binary_accuracy": BinaryAccuracy,
    "categorical_accuracy": CategoricalAccuracy,
    "sparse_categorical_accuracy": SparseCategoricalAccuracy,
    "top_k_categorical_accuracy": TopKCategoricalAccuracy,
    "sparse_top_k_categorical_accuracy": SparseTopKCategoricalAccuracy,
    "precision": Precision,
    "recall": Recall,
    "f1_score": F1Score,
    "auc": AUC,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "root_mean_squared_error": RootMeanSquaredError,
    "rmse": RootMeanSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "mae": MeanAbsoluteError,
    "r2_score": R2Score,
}
ACCURACY = ("accuracy", "acc")

__all__ = [
    "AUC",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "ConfusionMatrix",
    "F1Score",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "Precision",
    "R2Score",
    "Recall",
    "RootMeanSquaredError",
    "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy",
    "TopKCategoricalAccuracy",
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
