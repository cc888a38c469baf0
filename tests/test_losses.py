"""Losses: their values by hand, their gradients by central differences, also where numbers are extreme."""

from __future__ import annotations

import copy
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
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    CategoricalHinge,
    Exponential,
    Hinge,
    Huber,
    KLDivergence,
    LogCosh,
    Loss,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    Poisson,
    Quantile,
    SparseCategoricalCrossentropy,
    SquaredHinge,
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


SIGNS = 2 * BITS - 1
SHARES = 1 + SOFT
MILD = np.exp(LOGITS / 4) / np.exp(LOGITS / 4).sum(axis=1, keepdims=True)
DIFFERENCE = LOGITS - SOFT
COUNTS = RNG.poisson(3.0, (5, 4)).astype(float)
RATES = np.exp(LOGITS)
SMOOTHED = 0.9 * ONE_HOT + 0.1 / 4
HIT = BITS * SIGMOIDS + (1 - BITS) * (1 - SIGMOIDS)
BALANCE = 0.3 * BITS + 0.7 * (1 - BITS)
WRONG = np.where(ONE_HOT == 1, 0.0, LOGITS).max(axis=1)


def focal(t: np.ndarray, gamma: float) -> np.ndarray:
    return -(0.25 * (1 - PROBABILITIES) ** gamma * t * np.log(PROBABILITIES)).sum(axis=1)


def entropy(t: np.ndarray) -> np.ndarray:
    return -(t * np.log(t)).sum(axis=1)


def simple(loss: Loss, y_true: np.ndarray, y_pred: np.ndarray, each: np.ndarray, name: str) -> Any:
    """Return a case whose loss is a mean over a sample's outputs."""
    return pytest.param(loss, y_true, y_pred, each.mean(axis=1), id=name)


# loss, targets, predictions, loss of each sample by the formula
CASES = [
    simple(MeanAbsoluteError(), SOFT, LOGITS, abs(DIFFERENCE), "mae"),
    simple(MeanAbsolutePercentageError(), SHARES, LOGITS, 100 * abs(LOGITS - SHARES) / SHARES, "mape"),
    simple(
        Huber(0.7),
        SOFT,
        LOGITS,
        np.where(abs(DIFFERENCE) <= 0.7, DIFFERENCE**2 / 2, 0.7 * abs(DIFFERENCE) - 0.245),
        "huber",
    ),
    simple(LogCosh(), SOFT, LOGITS, np.log(np.cosh(DIFFERENCE)), "log-cosh"),
    simple(Quantile(0.8), SOFT, LOGITS, np.maximum(-0.8 * DIFFERENCE, 0.2 * DIFFERENCE), "quantile"),
    simple(Poisson(), COUNTS, RATES, RATES - COUNTS * LOGITS, "poisson"),
    simple(Poisson(log_input=True), COUNTS, LOGITS, RATES - COUNTS * LOGITS, "poisson-log"),
    simple(Hinge(), SIGNS, LOGITS, np.maximum(1 - SIGNS * LOGITS, 0), "hinge"),
    simple(Hinge(), BITS, LOGITS, np.maximum(1 - SIGNS * LOGITS, 0), "hinge-bits"),
    simple(SquaredHinge(), SIGNS, LOGITS, np.maximum(1 - SIGNS * LOGITS, 0) ** 2, "squared-hinge"),
    simple(Exponential(), SIGNS, LOGITS, np.exp(-SIGNS * LOGITS), "exponential"),
    pytest.param(
        CategoricalHinge(),
        ONE_HOT,
        LOGITS,
        np.maximum(1 + WRONG - (ONE_HOT * LOGITS).sum(axis=1), 0),
        id="categorical-hinge",
    ),
    simple(
        BinaryCrossentropy(from_logits=True, label_smoothing=0.2),
        BITS,
        LOGITS,
        binary(LOGITS, 0.8 * BITS + 0.1),
        "binary-smoothed",
    ),
    simple(BinaryFocalCrossentropy(gamma=1.5), BITS, SIGMOIDS, (1 - HIT) ** 1.5 * binary(LOGITS, BITS), "focal"),
    simple(
        BinaryFocalCrossentropy(True, 0.3, 3.0, from_logits=True),
        BITS,
        LOGITS,
        BALANCE * (1 - HIT) ** 3 * binary(LOGITS, BITS),
        "focal-logits",
    ),
    pytest.param(CategoricalFocalCrossentropy(), ONE_HOT, PROBABILITIES, focal(ONE_HOT, 2), id="categorical-focal"),
    pytest.param(
        CategoricalFocalCrossentropy(gamma=0.5, from_logits=True),
        SOFT,
        LOGITS,
        focal(SOFT, 0.5),
        id="categorical-focal-logits",
    ),
    pytest.param(
        CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        ONE_HOT,
        LOGITS,
        -(SMOOTHED * log_softmax(LOGITS)).sum(axis=1),
        id="categorical-smoothed",
    ),
    pytest.param(
        SparseCategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        LABELS,
        LOGITS,
        -(SMOOTHED * log_softmax(LOGITS)).sum(axis=1),
        id="sparse-smoothed-logits",
    ),
    pytest.param(
        SparseCategoricalCrossentropy(label_smoothing=0.1),
        LABELS,
        MILD,
        -(SMOOTHED * np.log(MILD)).sum(axis=1),
        id="sparse-smoothed",
    ),
    pytest.param(
        KLDivergence(),
        SOFT,
        MILD,
        -(SOFT * np.log(MILD)).sum(axis=1) - entropy(SOFT),
        id="kl",
    ),
    pytest.param(
        KLDivergence(from_logits=True),
        SOFT,
        LOGITS,
        -(SOFT * log_softmax(LOGITS)).sum(axis=1) - entropy(SOFT),
        id="kl-logits",
    ),
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

    def test_reductions(self, loss: Loss, y_true: np.ndarray, y_pred: np.ndarray, each: np.ndarray) -> None:
        """The sum is N times the mean, and "none" gives each sample's loss with the sum's gradient."""
        mean, gradient = loss.value_and_gradient(y_true, y_pred, WEIGHTS)
        for reduction, expected in (("mean", mean), ("sum", mean * len(each)), ("none", each * WEIGHTS)):
            other = copy.copy(loss)
            other.reduction = reduction
            value, slope = other.value_and_gradient(y_true, y_pred, WEIGHTS)
            np.testing.assert_allclose(value, expected, rtol=1e-12)
            np.testing.assert_allclose(slope, gradient * (1 if reduction == "mean" else len(each)), rtol=1e-12)

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


@both_dtypes
@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
def test_losses_of_numbers_at_extreme_differences(dtype: Any, size: float) -> None:
    """What grows like the difference does so to the end; no difference costs nothing."""
    far = np.array([[size, -size]], dtype)
    for loss, each in ((MeanAbsoluteError(), size), (Huber(), size - 0.5), (LogCosh(), size - math.log(2))):
        value, gradient = loss.value_and_gradient([[0.0, 0.0]], far)
        assert value == pytest.approx(each, rel=1e-6)
        np.testing.assert_allclose(gradient, [[0.5, -0.5]], rtol=1e-6)
        value, gradient = loss.value_and_gradient(far, far)
        assert value == 0
        assert not gradient.any()


def test_log_cosh_of_tiny_differences_is_half_the_square() -> None:
    assert LogCosh()([[0.0]], np.array([[1e-9]])) == pytest.approx(0.5e-18, rel=1e-12)


@both_dtypes
def test_focal_losses_of_sure_predictions_stay_finite(dtype: Any) -> None:
    for gamma in (0.0, 0.5, 2.0):
        for scale in (1.0, 500.0):
            sure = np.array([[scale, -scale]], dtype)
            binary_focal = BinaryFocalCrossentropy(gamma=gamma, from_logits=True)
            categorical_focal = CategoricalFocalCrossentropy(gamma=gamma, from_logits=True)
            for loss in (binary_focal, categorical_focal):
                for y in ([[1.0, 0.0]], [[0.0, 1.0]]):
                    value, gradient = loss.value_and_gradient(y, sure)
                    assert math.isfinite(value)
                    assert np.isfinite(gradient).all()
    right = BinaryFocalCrossentropy(from_logits=True)([[1.0]], np.array([[500.0]], dtype))
    assert right == pytest.approx(0, abs=1e-30)


def test_an_exponential_loss_beyond_float64_is_infinite() -> None:
    value, gradient = Exponential().value_and_gradient([[1.0]], np.array([[-800.0]]))
    assert value == math.inf
    assert gradient[0, 0] == -math.inf


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
        (lambda: Huber(0), ValueError, "delta.*above 0.*0"),
        (lambda: Quantile(1.0), ValueError, "quantile.*between 0 and 1.*1.0"),
        (lambda: Poisson(log_input=1), TypeError, "log_input.*True or False"),
        (lambda: Hinge()([[0.5]], np.ones((1, 1))), ValueError, "-1 and 1, or of 0 and 1.*0.5"),
        (lambda: Hinge()([[-1.0, 0.0]], np.ones((1, 2))), ValueError, "-1 and 1, or of 0 and 1"),
        (lambda: BinaryFocalCrossentropy(gamma=-1), ValueError, "gamma.*at least 0.*-1"),
        (lambda: BinaryFocalCrossentropy(alpha=2), ValueError, "alpha.*between 0 and 1.*2"),
        (lambda: CategoricalCrossentropy(label_smoothing=-0.1), ValueError, "label_smoothing.*-0.1"),
        (lambda: MeanSquaredError("summ"), ValueError, "reduction.*'summ'.*did you mean 'sum'"),
        (lambda: MeanSquaredError(None), TypeError, "reduction.*None"),
        (lambda: losses.get(None), TypeError, "loss.*None"),
        (lambda: Loss()(BITS, LOGITS), NotImplementedError, "must define per_sample"),
    ],
)
def test_errors_teach(make: Callable[[], Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()
