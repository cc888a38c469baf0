"""The course, examples 21 and 22: optimizers, initialisers, schedules, stopping early, metrics and splits by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv import initializers, metrics, optimizers, schedules

ROUNDED = {"rtol": 0, "atol": 6e-9}

TWO_STEPS: dict[str, tuple[optimizers.Optimizer, list[float]]] = {
    "gradient descent": (optimizers.SGD(0.1), [0.8, 0.64]),
    "momentum": (optimizers.SGD(0.1, momentum=0.9), [0.8, 0.46]),
    "nesterov": (optimizers.SGD(0.1, momentum=0.9, nesterov=True), [0.62, 0.2224]),
    "adagrad": (optimizers.Adagrad(0.1, initial_accumulator_value=0.0, epsilon=0.0), [0.9, 0.83310353]),
    "rmsprop": (optimizers.RMSprop(0.1, rho=0.9, epsilon=0.0), [0.68377223, 0.49887061]),
    "adadelta": (optimizers.Adadelta(1.0, rho=0.95, epsilon=1e-6), [0.99552788, 0.99100868]),
    "adam": (optimizers.Adam(0.1, epsilon=1e-300), [0.9, 0.80041223]),
}
"""Positions after one step and after two, from w = 1 down the parabola w^2, whose gradient is 2 w."""


@pytest.mark.parametrize("name", TWO_STEPS)
def test_two_steps_by_hand(name: str) -> None:
    optimizer, expected = TWO_STEPS[name]
    w = np.ones(1)
    for position in expected:
        optimizer.update(w, 2 * w)
        assert w[0] == pytest.approx(position, abs=6e-9)


def test_the_first_step_of_nadam_by_hand() -> None:
    """Dozat's rule: the next momentum acts in this step already."""
    mu, following = (0.9 * (1 - 0.5 * 0.96**t) for t in (1, 2))
    m_hat = following * 0.1 * 2 / (1 - mu * following) + (1 - mu) * 2 / (1 - mu)
    w = np.ones(1)
    optimizers.Nadam(0.1).update(w, 2 * w)
    assert w[0] == pytest.approx(1 - 0.1 * m_hat / 2, abs=1e-6)


def test_batch_stochastic_and_mini_batch_are_the_batch_size() -> None:
    x, y = np.ones((12, 1)), np.ones(12)
    for batch_size, steps in ((12, 1), (1, 12), (5, 3)):
        model = fc.Sequential([fc.Dense(1, input_shape=1)], seed=0)
        model.compile("sgd", "mse")
        model.fit(x, y, batch_size=batch_size, verbose=0)
        assert model.optimizer.iterations == steps


DEVIATIONS = {
    "xavier_normal": np.sqrt(2 / 900),
    "xavier_uniform": np.sqrt(6 / 900) / np.sqrt(3),
    "he_normal": np.sqrt(2 / 400),
    "he_uniform": np.sqrt(6 / 400) / np.sqrt(3),
    "lecun_normal": np.sqrt(1 / 400),
    "lecun_uniform": np.sqrt(3 / 400) / np.sqrt(3),
    "random_normal": 0.05,
    "random_uniform": 0.05 / np.sqrt(3),
    "zeros": 0.0,
}
"""Standard deviations for a layer of 400 inputs and 500 units; a uniform draw within a has a / sqrt(3)."""


@pytest.mark.parametrize("name", DEVIATIONS)
def test_standard_deviations_of_initialisers(name: str) -> None:
    weights = initializers.get(name, "kernel_initializer")((500, 400), rng=np.random.default_rng(0))
    assert weights.std() == pytest.approx(DEVIATIONS[name], rel=0.01)
    assert abs(weights.mean()) < 0.001
    if name.endswith("uniform"):
        limit = DEVIATIONS[name] * np.sqrt(3)
        assert 0.99 * limit < np.abs(weights).max() <= limit


def test_dropout_keeps_the_mean_and_rests_at_inference() -> None:
    layer = fc.Dropout(0.25)
    layer.build((10_000,), np.random.default_rng(0), np.float64)
    x = np.ones((1, 10_000))
    y, _ = layer.forward(x, training=True)
    assert set(np.unique(y)) == {0, 1 / 0.75}
    assert (y == 0).mean() == pytest.approx(0.25, abs=0.02)
    np.testing.assert_array_equal(layer(x), x)


RATES: dict[str, tuple[schedules.Schedule, dict[int, float]]] = {
    "step": (schedules.StepDecay(0.1, 10, 0.5), {0: 0.1, 9: 0.1, 10: 0.05, 25: 0.025}),
    "exponential": (schedules.ExponentialDecay(0.1, 100, 0.5), {0: 0.1, 50: 0.1 / np.sqrt(2), 200: 0.025}),
    "inverse time": (schedules.InverseTimeDecay(0.1, 10, 1.0), {0: 0.1, 10: 0.05, 30: 0.025}),
    "polynomial": (schedules.PolynomialDecay(0.1, 10, 0.0, power=2), {0: 0.1, 5: 0.025, 10: 0, 20: 0}),
    "cosine": (schedules.CosineDecay(0.1, 12), {0: 0.1, 4: 0.075, 6: 0.05, 8: 0.025, 12: 0}),
    "restarts": (schedules.CosineDecayRestarts(0.1, 10), {0: 0.1, 5: 0.05, 10: 0.1, 20: 0.05, 30: 0.1}),
    "piecewise": (schedules.PiecewiseConstantDecay([10, 20], [1, 0.5, 0.1]), {0: 1, 10: 1, 11: 0.5, 21: 0.1}),
    "warm-up": (schedules.Warmup(0.1, 4), {0: 0, 1: 0.025, 2: 0.05, 4: 0.1, 100: 0.1}),
}


@pytest.mark.parametrize("name", RATES)
def test_learning_rates_by_hand(name: str) -> None:
    schedule, rates = RATES[name]
    assert {step: schedule(step) for step in rates} == pytest.approx(rates, abs=1e-12)


def test_early_stopping_waits_and_returns_to_the_best() -> None:
    """Many units learn twenty noisy points by heart; fifty others tell when."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (70, 1))
    y = np.sin(3 * x) + 0.3 * rng.standard_normal((70, 1))
    layers = [fc.Dense(128, activation="relu", kernel_initializer=name) for name in ("he_normal", "glorot_uniform")]
    model = fc.Sequential([fc.Input(1), *layers, fc.Dense(1)], seed=0)
    model.compile(optimizers.Adam(0.02), "mse")
    stop = fc.callbacks.EarlyStopping(patience=50, restore_best_weights=True)
    held_out = (x[20:], y[20:])
    errors = model.fit(x[:20], y[:20], validation_data=held_out, epochs=1000, callbacks=stop, verbose=0).history[
        "val_loss"
    ]
    assert len(errors) < 1000
    assert stop.best_epoch == np.argmin(errors) == len(errors) - 51
    assert stop.best == min(errors)
    assert model.evaluate(*held_out, verbose=0) == pytest.approx(min(errors), rel=1e-5)


def test_penalties_by_hand() -> None:
    """At w = (3, -4) with 0.1: L1 costs 0.7 and pulls by 0.1, L2 costs 2.5 and pulls by 0.2 w."""
    w = np.array([3.0, -4.0])
    for penalty, cost, pull in (
        (fc.regularizers.L1(0.1), 0.7, [0.1, -0.1]),
        (fc.regularizers.L2(0.1), 2.5, [0.6, -0.8]),
    ):
        value, gradient = penalty.penalty_and_gradient(w)
        assert value == pytest.approx(cost)
        np.testing.assert_allclose(gradient, pull, rtol=1e-12)


def test_weight_decay_shrinks_by_a_share_of_the_rate() -> None:
    w = np.array([3.0, -4.0])
    optimizers.SGD(0.5, weight_decay=0.1).apply(w, np.zeros(2))
    np.testing.assert_allclose(w, [2.85, -3.8], rtol=1e-15)


SAID = np.array([[0.9], [0.8], [0.7], [0.6], [0.9], [0.4], [0.2], [0.3], [0.1], [0.0]])
TRUE = np.array([[1.0], [1], [1], [1], [0], [1], [1], [0], [0], [0]])
"""Four hits, a false alarm, two misses, three rightly passed over."""


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (metrics.BinaryAccuracy(), 7 / 10),
        (metrics.Precision(), 4 / 5),
        (metrics.Recall(), 4 / 6),
        (metrics.F1Score(), 8 / 11),
        (metrics.MeanAbsoluteError(), 3.7 / 10),
    ],
)
def test_metrics_by_hand(metric: Any, expected: float) -> None:
    metric.update_state(TRUE, SAID)
    assert metric.result() == pytest.approx(expected, rel=1e-12)


def test_the_confusion_matrix_by_hand() -> None:
    matrix = metrics.ConfusionMatrix(2)
    matrix.update_state(TRUE[:, 0], (SAID[:, 0] > 0.5).astype(int))
    np.testing.assert_array_equal(matrix.result(), [[3, 1], [2, 4]])


def test_a_fifth_is_kept_for_the_test() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    (x, y), (x_test, y_test) = fc.data.load_digits(test_fraction=0.2, seed=0)
    assert (len(x), len(x_test)) == (1437, 360)
    assert (len(y), len(y_test)) == (1437, 360)
    seen = {image.tobytes() for image in x}
    assert sum(image.tobytes() in seen for image in x_test) == 0
