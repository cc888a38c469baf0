"""Metrics: counts over batches, and what "accuracy" means for each loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastconv import metrics
from fastconv.losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    Loss,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
)
from fastconv.metrics import BinaryAccuracy, CategoricalAccuracy, Metric, SparseCategoricalAccuracy

SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [0.9, 0.05, 0.05]])
LABELS = np.array([1, 0, 0, 2])
CASES = [
    (lambda: SparseCategoricalAccuracy(), LABELS, SCORES, 0.5),
    (lambda: CategoricalAccuracy(), np.eye(3)[LABELS], SCORES, 0.5),
    (lambda: BinaryAccuracy(), np.array([[1.0], [0.0], [0.0], [1.0]]), SCORES[:, 1:2], 0.75),
    (lambda: BinaryAccuracy(0.25), np.array([[1.0], [0.0], [0.0], [1.0]]), SCORES[:, 1:2], 0.5),
]


@pytest.mark.parametrize(("make", "y_true", "y_pred", "expected"), CASES, ids=lambda value: None)
class TestEveryMetric:
    def test_value(self, make: Callable[[], Metric], y_true: Any, y_pred: Any, expected: float) -> None:
        metric = make()
        metric.update_state(y_true, y_pred)
        assert metric.result() == expected
        assert isinstance(metric.result(), float)

    def test_batches_count_by_their_size(
        self, make: Callable[[], Metric], y_true: Any, y_pred: Any, expected: float
    ) -> None:
        metric = make()
        for part in (slice(0, 1), slice(1, 4)):
            metric.update_state(y_true[part], y_pred[part])
        assert metric.result() == expected

    def test_reset_forgets(self, make: Callable[[], Metric], y_true: Any, y_pred: Any, expected: float) -> None:
        metric = make()
        assert math.isnan(metric.result())
        metric.update_state(y_true, y_pred)
        metric.reset_state()
        assert math.isnan(metric.result())


@pytest.mark.parametrize(
    ("loss", "output_shape", "kind"),
    [
        (SparseCategoricalCrossentropy(), (10,), SparseCategoricalAccuracy),
        (CategoricalCrossentropy(), (10,), CategoricalAccuracy),
        (BinaryCrossentropy(), (1,), BinaryAccuracy),
        (MeanSquaredError(), (1,), BinaryAccuracy),
        (MeanSquaredError(), (3,), CategoricalAccuracy),
    ],
)
def test_accuracy_fits_the_loss(loss: Loss, output_shape: tuple[int, ...], kind: type) -> None:
    assert type(metrics.accuracy_for(loss, output_shape)) is kind


@pytest.mark.parametrize(("from_logits", "threshold"), [(True, 0.0), (False, 0.5), (None, 0.5)])
def test_the_threshold_fits_what_the_loss_takes(from_logits: bool | None, threshold: float) -> None:
    metric = metrics.accuracy_for(BinaryCrossentropy(from_logits), (1,))
    assert isinstance(metric, BinaryAccuracy)
    assert metric.threshold == threshold


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: metrics.get("binary_acuracy"), ValueError, "did you mean 'binary_accuracy'"),
        (lambda: metrics.get(np.mean), TypeError, "expected metric to be"),
        (lambda: Metric().update_state(LABELS, SCORES), NotImplementedError, "must define count"),
    ],
)
def test_errors_teach(make: Callable[[], Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()
