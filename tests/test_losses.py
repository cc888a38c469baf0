"""Losses: their values by hand, their gradients by central differences, also where numbers are extreme."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastconv import losses
from fastconv._config import describe, restore
from fastconv.gradcheck import gradcheck
from fastconv.losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    Loss,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
)

RNG = np.random.default_rng(3)
LOGITS = RNG.standard_normal((5, 4)) * 3
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
LABELS = np.array([0, 3, 1, 1, 2])
ONE_HOT = np.eye(4)[LABELS]
SOFT = PROBABILITIES[::-1].copy()
BITS = (RNG.random((5, 4)) > 0.5).astype(float)
SIGMOIDS = 1 / (1 + np.exp(-LOGITS))
WEIGHTS = np.array([0.5, 2.0, 0.0, 1.0, 3.0])


def log_softmax(z: np.ndarray) -> np.ndarray:
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def binary(z: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.abs(z)))


# loss, targets, predictions, loss of each sample by the formula
CASES = [
    pytest.param(MeanSquaredError(), SOFT, LOGITS, ((LOGITS - SOFT) ** 2).mean(axis=1), id="mse"),
    pytest.param(
        BinaryCrossentropy(from_logits=True), BITS, LOGITS, binary(LOGITS, BITS).mean(axis=1), id="binary-logits"
    ),
    pytest.param(
        BinaryCrossentropy(from_logits=True), SOFT, LOGITS, binary(LOGITS, SOFT).mean(axis=1), id="binary-soft"
    ),
    pytest.param(BinaryCrossentropy(), BITS, SIGMOIDS, binary(LOGITS, BITS).mean(axis=1), id="binary"),
    pytest.param(
        CategoricalCrossentropy(from_logits=True),
        ONE_HOT,
        LOGITS,
        -(ONE_HOT * log_softmax(LOGITS)).sum(axis=1),
        id="categorical-logits",
    ),
    pytest.param(
        CategoricalCrossentropy(from_logits=True),
        SOFT,
        LOGITS,
        -(SOFT * log_softmax(LOGITS)).sum(axis=1),
        id="categorical-soft",
    ),
    pytest.param(
        CategoricalCrossentropy(),
        ONE_HOT,
        PROBABILITIES,
        -(ONE_HOT * log_softmax(LOGITS)).sum(axis=1),
        id="categorical",
    ),
    pytest.param(
        SparseCategoricalCrossentropy(from_logits=True),
        LABELS,
        LOGITS,
        -log_softmax(LOGITS)[np.arange(5), LABELS],
        id="sparse-logits",
    ),
    pytest.param(
        SparseCategoricalCrossentropy(),
        LABELS,
        PROBABILITIES,
        -log_softmax(LOGITS)[np.arange(5), LABELS],
        id="sparse",
    ),
]


@pytest.mark.parametrize(("loss", "y_true", "y_pred", "each"), CASES)
class TestEveryLoss:
    def test_value_is_the_mean_over_samples(
        self, loss: Loss, y_true: np.ndarray, y_pred: np.ndarray, each: np.ndarray
    ) -> None:
        assert loss(y_true, y_pred) == pytest.approx(each.mean(), rel=1e-12)
        assert loss(y_true, y_pred.astype(np.float32)) == pytest.approx(each.mean(), rel=1e-5)

    def test_weights_multiply_and_the_sum_is_divided_by_n(
        self, loss: Loss, y_true: np.ndarray, y_pred: np.ndarray, each: np.ndarray
    ) -> None:
        expected = (each * WEIGHTS).sum() / len(each)
        assert loss(y_true, y_pred, WEIGHTS) == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
    def test_gradient_is_the_central_difference(
        self, loss: Loss, y_true: np.ndarray, y_pred: np.ndarray, each: np.ndarray, weights: Any
    ) -> None:
        def run(prediction: np.ndarray) -> tuple[np.ndarray, Any]:
            value, gradient = loss.value_and_gradient(y_true, prediction, weights)
            return np.array(value), lambda grad: grad * gradient

        assert gradcheck(run, y_pred, rtol=1e-5, atol=1e-8)

    def test_gradient_has_the_dtype_and_arguments_stay(
        self, loss: Loss, y_true: np.ndarray, y_pred: np.ndarray, each: np.ndarray
    ) -> None:
        single = y_pred.astype(np.float32)
        kept, weights = single.copy(), WEIGHTS.astype(np.float32)
        _, gradient = loss.value_and_gradient(y_true, single, weights)
        assert gradient.dtype == np.float32
        assert gradient.shape == single.shape
        np.testing.assert_array_equal(single, kept)
        np.testing.assert_array_equal(weights, WEIGHTS)

    def test_configuration_makes_the_same(
        self, loss: Loss, y_true: np.ndarray, y_pred: np.ndarray, each: np.ndarray
    ) -> None:
        classes = {kind.__name__: kind for kind in losses.NAMES.values()}
        again = restore(json.loads(json.dumps(describe(loss))), classes)
        assert again(y_true, y_pred) == loss(y_true, y_pred)


def both_dtypes(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.parametrize("dtype", [np.float32, np.float64])(test)


@both_dtypes
@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
def test_extreme_logits_give_exact_losses(dtype: Any, size: float) -> None:
    """A margin of `size` costs `size` where it is wrong and nothing where it is right."""
    logits = np.array([[size, -size], [size, -size]], dtype)
    one_hot = np.eye(2)
    expected = 2 * size / 2
    sparse = SparseCategoricalCrossentropy(from_logits=True)
    categorical = CategoricalCrossentropy(from_logits=True)
    for loss, y in ((sparse, [0, 1]), (categorical, one_hot)):
        value, gradient = loss.value_and_gradient(y, logits)
        assert value == pytest.approx(expected, rel=1e-6)
        np.testing.assert_allclose(gradient, [[0, 0], [0.5, -0.5]], atol=1e-30)
    value, gradient = BinaryCrossentropy(from_logits=True).value_and_gradient(one_hot, logits)
    assert value == pytest.approx(expected / 2, rel=1e-6)
    np.testing.assert_allclose(gradient, [[0, 0], [0.25, -0.25]], atol=1e-30)


@pytest.mark.parametrize("size", [30.0, 300.0, 700.0])
def test_gradients_at_extreme_logits_are_central_differences(size: float) -> None:
    logits = np.array([[size, -size, 0.5], [-size, size, -0.25]])

    def check(loss: Loss, y: Any) -> None:
        def run(z: np.ndarray) -> tuple[np.ndarray, Any]:
            value, gradient = loss.value_and_gradient(y, z)
            return np.array(value), lambda grad: grad * gradient

        assert gradcheck(run, logits, eps=1e-4)

    check(SparseCategoricalCrossentropy(from_logits=True), [1, 1])
    check(CategoricalCrossentropy(from_logits=True), np.eye(3)[[1, 1]])
    check(BinaryCrossentropy(from_logits=True), np.eye(3)[[1, 1]])


@both_dtypes
def test_probabilities_of_zero_and_one_stay_finite(dtype: Any) -> None:
    sure = np.array([[0.0, 1.0]], dtype)
    for loss, wrong, right in (
        (SparseCategoricalCrossentropy(), [0], [1]),
        (CategoricalCrossentropy(), [[1.0, 0.0]], [[0.0, 1.0]]),
        (BinaryCrossentropy(), [[1.0, 0.0]], [[0.0, 1.0]]),
    ):
        value, gradient = loss.value_and_gradient(wrong, sure, np.array([100.0]))
        assert math.isfinite(value)
        assert value > 1000
        assert np.isfinite(gradient).all()
        assert loss(right, sure) == pytest.approx(0, abs=1e-6)


@both_dtypes
def test_a_confident_mistake_keeps_its_gradient(dtype: Any) -> None:
    """Keras clips probabilities at 1e-7, and a network that is surely wrong stops learning."""
    p = np.array([[1e-20, 1.0]], dtype)
    value, gradient = SparseCategoricalCrossentropy().value_and_gradient([0], p)
    assert value == pytest.approx(20 * math.log(10), rel=1e-6)
    assert gradient[0, 0] * p[0, 0] == pytest.approx(-1, rel=1e-6)


def test_squares_of_large_float32_do_not_overflow() -> None:
    value, _ = MeanSquaredError().value_and_gradient([[0.0]], np.array([[1e30]], np.float32))
    assert value == pytest.approx(1e60, rel=1e-6)


def test_an_impossible_class_costs_nothing() -> None:
    logits = np.array([[0.0, 0.0, -np.inf]])
    value, gradient = CategoricalCrossentropy(from_logits=True).value_and_gradient([[1, 0, 0]], logits)
    assert value == pytest.approx(math.log(2))
    np.testing.assert_allclose(gradient, [[-0.5, 0.5, 0]])


def test_a_column_of_targets_may_be_flat() -> None:
    prediction = np.array([[0.2], [0.9]])
    for loss in (MeanSquaredError(), BinaryCrossentropy()):
        assert loss([0, 1], prediction) == loss([[0], [1]], prediction)


def test_labels_may_be_a_column_or_whole_floats() -> None:
    loss = SparseCategoricalCrossentropy(from_logits=True)
    expected = loss(LABELS, LOGITS)
    assert loss(LABELS[:, np.newaxis], LOGITS) == expected
    assert loss(LABELS.astype(float), LOGITS) == expected
    assert loss(LABELS.astype(np.uint8), LOGITS) == expected


SPARSE, CATEGORICAL = SparseCategoricalCrossentropy(), CategoricalCrossentropy()


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: SPARSE([0, 4, 1, 1, 1], PROBABILITIES), ValueError, "labels 0 to 3.*4 outputs.*4 at index 1"),
        (lambda: SPARSE([0, 1, -1, 1, 1], PROBABILITIES), ValueError, "-1 at index 2"),
        (lambda: SPARSE([0, 1.5, 1, 1, 1], PROBABILITIES), ValueError, "1.5 at index 1"),
        (lambda: SPARSE([0, np.nan, 1, 1, 1], PROBABILITIES), ValueError, "nan at index 1"),
        (lambda: SPARSE(ONE_HOT, PROBABILITIES), ValueError, "one-hot.*'categorical_crossentropy'"),
        (lambda: SPARSE([0, 1], PROBABILITIES), ValueError, r"\(5,\).*\(2,\)"),
        (lambda: SPARSE([0], np.ones((1, 2, 2))), ValueError, r"\(N, classes\).*Flatten"),
        (lambda: CATEGORICAL(LABELS, PROBABILITIES), ValueError, "'sparse_categorical_crossentropy'"),
        (lambda: CATEGORICAL(ONE_HOT * 2, PROBABILITIES), ValueError, "between 0 and 1.*0.0 to 2.0"),
        (lambda: BinaryCrossentropy()(BITS - 0.5, SIGMOIDS), ValueError, "between 0 and 1.*-0.5"),
        (lambda: BinaryCrossentropy()(BITS * np.nan, SIGMOIDS), ValueError, "between 0 and 1.*nan"),
        (lambda: MeanSquaredError()(BITS[:, :2], LOGITS), ValueError, r"\(5, 4\).*\(5, 2\)"),
        (lambda: MeanSquaredError()([1.0], [1.0]), TypeError, "y_pred.*float32 or float64.*list"),
        (lambda: MeanSquaredError()([1], np.array([1])), TypeError, "y_pred.*int64"),
        (lambda: MeanSquaredError()(BITS, LOGITS, [1.0]), ValueError, r"sample_weight.*\(5,\).*\(1,\)"),
        (lambda: MeanSquaredError()(BITS[:0], LOGITS[:0]), ValueError, "at least one prediction"),
        (lambda: BinaryCrossentropy(from_logits="yes"), TypeError, "True or False.*'yes'"),
        (lambda: losses.get("mean_square_error"), ValueError, "did you mean 'mean_squared_error'"),
        (lambda: losses.get(None), TypeError, "loss.*None"),
        (lambda: Loss()(BITS, LOGITS), NotImplementedError, "must define compute"),
    ],
)
def test_errors_teach(make: Callable[[], Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()
