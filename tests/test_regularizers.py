"""Penalties and limits of weights: their formulas, and what training makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv.gradcheck import gradcheck
from fastconv.optimizers import SGD
from fastconv.regularizers import L1, L1L2, L2, Constraint, MaxNorm, NonNegative, Regularizer

RNG = np.random.default_rng(4)
X, Y = RNG.standard_normal((12, 5)), RNG.standard_normal((12, 3))
WEIGHT = RNG.standard_normal((4, 3, 2, 2))


@pytest.mark.parametrize(
    ("regularizer", "expected"),
    [
        (L1(), 0.01 * np.abs(WEIGHT).sum()),
        (L2(0.3), 0.3 * (WEIGHT**2).sum()),
        (L1L2(0.2, 0.1), 0.2 * np.abs(WEIGHT).sum() + 0.1 * (WEIGHT**2).sum()),
        (L1L2(), 0.0),
    ],
)
def test_penalty_and_gradient(regularizer: Regularizer, expected: float) -> None:
    assert regularizer(WEIGHT) == pytest.approx(expected)

    def run(weight: np.ndarray) -> tuple[np.ndarray, Any]:
        value, gradient = regularizer.penalty_and_gradient(weight)
        return np.array(value), lambda grad: grad * gradient

    assert gradcheck(run, WEIGHT, rtol=1e-6)


def test_squares_of_large_float32_do_not_overflow() -> None:
    assert L2(1.0)(np.full(2, 1e30, np.float32)) == pytest.approx(2e60, rel=1e-6)


def dense(**options: Any) -> fc.Sequential:
    model = fc.Sequential([fc.Input((5,)), fc.Dense(3, **options)], seed=0, dtype="float64")
    model.compile(SGD(0.1), "mse")
    return model


def test_a_step_adds_penalty_and_gradient() -> None:
    plain, penalised = dense(), dense(kernel_regularizer=L2(0.5), bias_regularizer="l1")
    for model in (plain, penalised):
        model.set_weights([WEIGHT.reshape(-1)[:15].reshape(3, 5), np.ones(3)])
    kernel = plain.get_weights()[0]
    cost = 0.5 * (kernel**2).sum() + 0.01 * 3
    assert penalised.evaluate(X, Y, verbose=0) == pytest.approx(plain.evaluate(X, Y, verbose=0) + cost)
    assert penalised.train_on_batch(X, Y) == pytest.approx(plain.train_on_batch(X, Y) + cost)
    np.testing.assert_allclose(penalised.get_weights()[0], plain.get_weights()[0] - 0.1 * 2 * 0.5 * kernel)
    np.testing.assert_allclose(penalised.get_weights()[1], plain.get_weights()[1] - 0.1 * 0.01)


def test_a_frozen_layer_costs_nothing() -> None:
    model = fc.Sequential([fc.Input((5,)), fc.Dense(4, kernel_regularizer=L2(9.0)), fc.Dense(3)], seed=0)
    model.layers[1].trainable = False
    model.compile("sgd", "mse")
    frozen = model.evaluate(X, Y, verbose=0)
    assert model.train_on_batch(X, Y) == pytest.approx(frozen)
    model.layers[1].trainable = True
    model.compile("sgd", "mse")
    assert model.evaluate(X, Y, verbose=0) > frozen


@pytest.mark.parametrize(
    "layer", [fc.Dense(3, kernel_constraint=MaxNorm(0.5)), fc.Dense(3, kernel_constraint="max_norm")]
)
def test_max_norm_holds_after_every_step(layer: fc.Dense) -> None:
    model = fc.Sequential([fc.Input((5,)), layer], seed=0)
    model.compile(SGD(5.0), "mse")
    for _ in range(3):
        model.train_on_batch(X, Y)
        assert isinstance(layer.kernel_constraint, MaxNorm)
        norms = np.linalg.norm(layer.kernel.value, axis=1)
        assert norms.max() == pytest.approx(layer.kernel_constraint.max_value, rel=1e-6)


def test_filters_of_a_convolution_have_a_norm_each() -> None:
    weight = WEIGHT.astype(np.float32) * 10
    weight[1] *= 1e-3
    kept = weight[1].copy()
    MaxNorm(1.0).apply(weight)
    np.testing.assert_allclose(np.linalg.norm(weight.reshape(4, -1), axis=1)[[0, 2, 3]], 1, rtol=1e-6)
    np.testing.assert_array_equal(weight[1], kept)


def test_non_negative() -> None:
    weight = WEIGHT.copy()
    NonNegative().apply(weight)
    np.testing.assert_array_equal(weight, np.maximum(WEIGHT, 0))


def test_files_keep_them(tmp_path: Path) -> None:
    model = fc.Sequential(
        [
            fc.Conv2D(2, 3, kernel_regularizer=L1L2(0.1, 0.2), kernel_constraint=MaxNorm(3.0), input_shape=(1, 5, 5)),
            fc.Flatten(),
            fc.Dense(2, bias_regularizer=L1(0.3)),
        ]
    )
    model.compile("sgd", "mse")
    model.save(tmp_path / "model.npz")
    loaded = fc.load_model(tmp_path / "model.npz")
    for a, b in zip(model.layers, loaded.layers, strict=True):
        assert repr(a) == repr(b)
    assert [p.regularizer is None for p in loaded.parameters] == [False, True, True, False]
    x, y = RNG.standard_normal((2, 1, 5, 5)), np.zeros((2, 2))
    assert loaded.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: L2(-1.0), ValueError, "l2.*at least 0.*-1.0"),
        (lambda: L1("much"), TypeError, "l1.*'much'"),
        (lambda: MaxNorm(0), ValueError, "max_value.*above 0.*0"),
        (lambda: fc.Dense(3, kernel_regularizer="l3"), ValueError, "kernel_regularizer.*'l2'.*'l3'"),
        (lambda: fc.Dense(3, bias_regularizer=0.1), TypeError, "bias_regularizer.*0.1 of type float"),
        (lambda: fc.Conv2D(3, 3, kernel_constraint="norm"), ValueError, "kernel_constraint.*'max_norm'"),
        (lambda: Regularizer()(np.ones(1)), NotImplementedError, "must define penalty_and_gradient"),
        (lambda: Constraint().apply(np.ones(1)), NotImplementedError, "must define apply"),
    ],
)
def test_errors_teach(make: Callable[[], Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()
