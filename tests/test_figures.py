"""Metrics of a whole epoch: precision and its kin, areas, errors of numbers, the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import metrics
from fastconv.metrics import (
    AUC,
    ConfusionMatrix,
    F1Score,
    MeanAbsoluteError,
    MeanSquaredError,
    Precision,
    R2Score,
    Recall,
    RootMeanSquaredError,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
)

CLASSES = 4
TRUE = np.random.default_rng(5).integers(0, CLASSES, 60)
SCORES = np.random.default_rng(6).standard_normal((60, CLASSES)).round(1)  # with ties
SAID = SCORES.argmax(1)
BINARY = (TRUE > 1).astype(np.float64)[:, np.newaxis]
CERTAINTY = 1 / (1 + np.exp(-SCORES[:, :1]))


def over_batches(metric: Any, y_true: np.ndarray, y_pred: np.ndarray) -> Any:
    """Return the metric after an epoch of uneven batches, and one before it that was reset."""
    metric.update_state(y_true[:9], y_pred[:9])
    metric.reset_state()
    for start, stop in ((0, 1), (1, 30), (30, 60)):
        metric.update_state(y_true[start:stop], y_pred[start:stop])
    return metric


def shares(average: str, hits: np.ndarray, whole: np.ndarray) -> float:
    if average == "micro":
        return float(hits.sum() / whole.sum())
    each = np.divide(hits, whole, out=np.zeros(CLASSES), where=whole > 0)
    return float(np.average(each, weights=np.bincount(TRUE, minlength=CLASSES) if average == "weighted" else None))


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("one_hot", [False, True])
def test_precision_recall_and_f1_of_classes(average: str, one_hot: bool) -> None:
    y = np.eye(CLASSES)[TRUE] if one_hot else TRUE
    hits = np.bincount(TRUE[TRUE == SAID], minlength=CLASSES)
    said, there = np.bincount(SAID, minlength=CLASSES), np.bincount(TRUE, minlength=CLASSES)
    for kind, expected in (
        (Precision, shares(average, hits, said)),
        (Recall, shares(average, hits, there)),
        (F1Score, shares(average, 2 * hits, said + there)),
    ):
        assert over_batches(kind(average), y, SCORES).result() == pytest.approx(expected)


def test_figures_of_one_output_and_of_many_labels() -> None:
    said = CERTAINTY[:, 0] > 0.5
    there = BINARY[:, 0] == 1
    for metric, y_pred in ((Precision(), CERTAINTY), (Precision(from_logits=True), SCORES[:, :1])):
        assert over_batches(metric, BINARY, y_pred).result() == pytest.approx((said & there).sum() / said.sum())
    many = (SCORES[::-1] > 0).astype(float)
    metric = over_batches(Recall(threshold=0.5), many, SCORES)
    np.testing.assert_allclose(metric.per_class(), ((SCORES > 0.5) & (many == 1)).sum(0) / many.sum(0))


def test_a_class_that_never_occurs_counts_nothing() -> None:
    metric = F1Score()
    metric.update_state(np.array([0, 0]), np.eye(3)[[0, 0]])
    np.testing.assert_array_equal(metric.per_class(), [1, 0, 0])
    assert metric.result() == pytest.approx(1 / 3)


def test_compile_tells_metrics_of_one_output_about_logits() -> None:
    model = fc.Sequential([fc.Input(shape=(3,)), fc.Dense(1)])
    model.compile("sgd", "binary_crossentropy", metrics=["precision", Recall(from_logits=False)])
    assert model.compiled is not None
    assert [metric.from_logits for metric in model.compiled.metrics] == [True, False]


def test_top_k_counts_ties_for_the_lower_class() -> None:
    order = np.argsort(-SCORES, axis=1, kind="stable")
    for k in (1, 2, 4):
        expected = (order[:, :k] == TRUE[:, np.newaxis]).any(axis=1).mean()
        assert over_batches(SparseTopKCategoricalAccuracy(k), TRUE, SCORES).result() == pytest.approx(expected)
        one_hot = np.eye(CLASSES)[TRUE]
        assert over_batches(TopKCategoricalAccuracy(k), one_hot, SCORES).result() == pytest.approx(expected)


def test_auc_is_the_share_of_pairs_in_order() -> None:
    positive, negative = SCORES[BINARY[:, 0] == 1, 0], SCORES[BINARY[:, 0] == 0, 0]
    pairs = positive[:, np.newaxis] - negative
    expected = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    assert over_batches(AUC(), BINARY, SCORES[:, :1]).result() == pytest.approx(expected)
    assert over_batches(AUC(), BINARY, CERTAINTY).result() == pytest.approx(expected)
    several = [over_batches(AUC(), (c == TRUE).astype(float)[:, np.newaxis], SCORES[:, [c]]).result() for c in range(4)]
    assert over_batches(AUC(), TRUE, SCORES).result() == pytest.approx(np.mean(several))
    alone = AUC()
    alone.update_state(np.ones((3, 1)), np.zeros((3, 1)))
    assert math.isnan(alone.result())


def test_errors_of_numbers() -> None:
    y = SCORES[::-1] * 2 + 1e6
    difference = SCORES + 1e6 - y
    for metric, expected in (
        (MeanSquaredError(), (difference**2).mean()),
        (RootMeanSquaredError(), math.sqrt((difference**2).mean())),
        (MeanAbsoluteError(), abs(difference).mean()),
        (R2Score(), (1 - (difference**2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)).mean()),
    ):
        assert over_batches(metric, y, SCORES + 1e6).result() == pytest.approx(expected, rel=1e-9)


def test_r2_of_constant_targets() -> None:
    for missed, expected in ((0.0, 1.0), (0.5, 0.0)):
        metric = R2Score()
        metric.update_state(np.ones((3, 1)), np.ones((3, 1)) + missed)
        assert metric.result() == expected


def test_confusion_matrix() -> None:
    matrix = ConfusionMatrix(CLASSES)
    matrix.update_state(TRUE[:20], SAID[:20])
    matrix.update_state(np.eye(CLASSES)[TRUE[20:]], SCORES[20:])
    expected = np.zeros((CLASSES, CLASSES), np.int64)
    for row, column in zip(TRUE, SAID, strict=True):
        expected[row, column] += 1
    np.testing.assert_array_equal(matrix.result(), expected)
    matrix.reset_state()
    assert not matrix.result().any()


def test_scikit_learn_agrees() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    for average in ("macro", "micro", "weighted"):
        f1 = over_batches(F1Score(average), TRUE, SCORES).result()
        assert f1 == pytest.approx(sklearn.f1_score(TRUE, SAID, average=average))
    assert over_batches(AUC(), BINARY, CERTAINTY).result() == pytest.approx(sklearn.roc_auc_score(BINARY, CERTAINTY))
    np.testing.assert_array_equal(
        sklearn.confusion_matrix(TRUE, SAID), over_batches(ConfusionMatrix(CLASSES), TRUE, SAID).result()
    )


@pytest.mark.parametrize("name", sorted(metrics.NAMES))
def test_no_metric_has_a_figure_before_the_first_batch(name: str) -> None:
    assert math.isnan(metrics.get(name).result())


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: F1Score("mean"), ValueError, "average.*'macro', 'micro', 'weighted'.*'mean'"),
        (lambda: TopKCategoricalAccuracy(0), ValueError, "k: expected at least 1.*0"),
        (lambda: ConfusionMatrix(1), ValueError, "classes: expected at least 2.*1"),
        (lambda: ConfusionMatrix(2).update_state([0, 2], [0, 0]), ValueError, "y_true.*labels 0 to 1"),
        (lambda: ConfusionMatrix(2).update_state([0, 1], [0.5, 0]), ValueError, "y_pred.*labels 0 to 1"),
        (lambda: ConfusionMatrix(2).update_state([0, 1], [0]), ValueError, "as many.*1 and 2"),
    ],
)
def test_errors_teach_about_figures(make: Callable[[], Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()
