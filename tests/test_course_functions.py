"""The course, examples 18 to 20: activations and losses, their numbers and their derivatives by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import losses

ROUNDED = {"rtol": 0, "atol": 6e-9}
"""The numbers are given to eight places."""


def test_softmax_by_hand() -> None:
    shares = fc.softmax(np.array([[3.2, 1.3, 0.2, 0.8]]))[0]
    np.testing.assert_allclose(shares, [0.77514955, 0.11593805, 0.03859242, 0.07031998], **ROUNDED)
    assert shares.sum() == pytest.approx(1)


def test_sigmoid_by_hand() -> None:
    expected = [0.95257413, 0.85195280, 0.11920292, 0.62245933]
    np.testing.assert_allclose(fc.sigmoid(np.array([3, 1.75, -2, 0.5])), expected, **ROUNDED)


def slope(activation: str, x: Any) -> np.ndarray:
    """Return the derivative of an activation, as its layer has it."""
    x = np.atleast_1d(np.array(x, np.float64))[np.newaxis]
    return fc.Activation(activation).forward(x)[1](np.ones_like(x))[0]


def test_derivatives_by_hand() -> None:
    x = np.array([-2.0, -0.5, 0.0, 0.5, 3.0])
    s, t = 1 / (1 + np.exp(-x)), np.tanh(x)
    np.testing.assert_allclose(slope("sigmoid", x), s * (1 - s), rtol=1e-12)
    np.testing.assert_allclose(slope("tanh", x), 1 - t**2, rtol=1e-12)
    assert slope("sigmoid", 0.0) == 0.25
    assert slope("tanh", 0.0) == 1
    away = x[x != 0]
    np.testing.assert_array_equal(slope("relu", away), away > 0)
    np.testing.assert_array_equal(slope("leaky_relu", away), np.where(away > 0, 1, 0.01))
    np.testing.assert_array_equal(slope("linear", x), np.ones(5))


def test_the_slope_of_a_leaky_relu_can_be_chosen() -> None:
    x = np.array([[-2.0, 3.0]])
    np.testing.assert_allclose(fc.leaky_relu(x), [[-0.02, 3]], rtol=1e-15)
    np.testing.assert_allclose(fc.LeakyReLU(0.1)(x), [[-0.2, 3]], rtol=1e-15)


@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu", "sigmoid", "tanh", "softmax"])
def test_derivatives_against_central_differences(activation: str) -> None:
    assert fc.gradcheck(fc.Activation(activation), np.array([[-3.1, -0.7, 0.4, 2.2]]))


def test_softmax_and_cross_entropy_together() -> None:
    """The gradient in the logits is p - y."""
    value, gradient = fc.softmax_cross_entropy(np.array([[3.2, 1.3, 0.2, 0.8]]), np.array([0]))
    assert value == pytest.approx(-np.log(0.77514955), abs=1e-8)
    np.testing.assert_allclose(gradient[0], [0.77514955 - 1, 0.11593805, 0.03859242, 0.07031998], **ROUNDED)


BY_HAND: dict[str, tuple[losses.Loss, Any, Any, float]] = {
    "mse": (losses.MeanSquaredError(), [[1, 2, 3]], [[1.5, 2, 2]], 1.25 / 3),
    "mae": (losses.MeanAbsoluteError(), [[1, 2, 3]], [[1.5, 2.5, 2]], 2 / 3),
    "mape": (losses.MeanAbsolutePercentageError(), [[1, 2, 4]], [[1.5, 3, 3]], 125 / 3),
    "huber": (losses.Huber(), [[1, 2, 3]], [[1.5, 2, 0]], 0.875),
    "log-cosh": (losses.LogCosh(), [[0]], [[1]], 0.43378083),
    "quantile": (losses.Quantile(0.9), [[1, 1]], [[0, 2]], 0.5),
    "binary cross-entropy": (losses.BinaryCrossentropy(), [[1, 0]], [[0.8, 0.3]], 0.28990925),
    "binary cross-entropy of logits": (losses.BinaryCrossentropy(from_logits=True), [[1]], [[0.5]], 0.47407698),
    "cross-entropy": (losses.CategoricalCrossentropy(), [[0, 1, 0]], [[0.2, 0.7, 0.1]], 0.35667494),
    "sparse cross-entropy": (losses.SparseCategoricalCrossentropy(), [1], [[0.2, 0.7, 0.1]], 0.35667494),
    "kl divergence": (losses.KLDivergence(), [[0.5, 0.5]], [[0.25, 0.75]], 0.14384104),
    "hinge": (losses.Hinge(), [[1, -1]], [[0.5, 0.25]], 0.875),
    "squared hinge": (losses.SquaredHinge(), [[1, -1]], [[0.5, 0.25]], 0.90625),
    "categorical hinge": (losses.CategoricalHinge(), [[0, 1, 0]], [[0.5, 1, 0.25]], 0.5),
    "exponential": (losses.Exponential(), [[1, -1]], [[0.5, 0.5]], (np.exp(-0.5) + np.exp(0.5)) / 2),
    "focal": (losses.BinaryFocalCrossentropy(), [[1]], [[0.9]], 0.01 * 0.10536052),
    "categorical focal": (losses.CategoricalFocalCrossentropy(), [[0, 1]], [[0.1, 0.9]], 0.25 * 0.01 * 0.10536052),
    "poisson": (losses.Poisson(), [[2]], [[4]], 1.22741128),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_losses_by_hand(name: str) -> None:
    loss, y_true, y_pred, expected = BY_HAND[name]
    assert loss(y_true, np.array(y_pred, np.float64)) == pytest.approx(expected, abs=6e-9)


@pytest.mark.parametrize("name", BY_HAND)
def test_gradients_of_losses_against_central_differences(name: str) -> None:
    loss, y_true, y_pred, _ = BY_HAND[name]
    prediction = np.array(y_pred, np.float64)
    if name in ("mse", "mae", "mape", "huber"):
        prediction += 0.01  # beside the kinks

    def run(y: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        value, gradient = loss.value_and_gradient(y_true, y)
        return np.array([value]), lambda grad: grad * gradient

    assert fc.gradcheck(run, prediction)


def test_a_confident_hit_counts_little_in_the_focal_loss() -> None:
    """(1 - p)^2 is 0.01 at p = 0.9 and 0.81 at p = 0.1."""
    for p, share in ((0.9, 0.01), (0.1, 0.81)):
        plain = losses.BinaryCrossentropy()([[1]], np.array([[p]]))
        assert losses.BinaryFocalCrossentropy()([[1]], np.array([[p]])) == pytest.approx(share * plain)


def test_smoothed_labels_by_hand() -> None:
    """With smoothing 0.1 over two classes the target (0, 1) becomes (0.05, 0.95)."""
    loss = losses.CategoricalCrossentropy(label_smoothing=0.1)
    expected = -0.05 * np.log(0.2) - 0.95 * np.log(0.8)
    assert loss([[0, 1]], np.array([[0.2, 0.8]])) == pytest.approx(expected, rel=1e-12)


def test_the_median_and_the_mean_are_what_the_losses_look_for() -> None:
    """Of 1, 2, 9: squares are least at the mean 4, sizes at the median 2, the pinball of 0.9 at 9."""
    points = np.array([1.0, 2.0, 9.0])
    guesses = np.linspace(0, 10, 101)
    for loss, best in ((losses.MeanSquaredError(), 4), (losses.MeanAbsoluteError(), 2), (losses.Quantile(0.9), 9)):
        values = [loss(points, np.full((3, 1), guess)) for guess in guesses]
        assert guesses[np.argmin(values)] == pytest.approx(best)
