"""Optimizers: 100 steps against the formulas in plain NumPy."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from fastconv import optimizers
from fastconv._config import describe, restore
from fastconv.optimizers import SGD, Adadelta, Adagrad, Adam, AdamW, Nadam, Optimizer, RMSprop
from fastconv.schedules import CosineDecay, StepDecay

SIZE, STEPS = 257, 100


def sgd(p: np.ndarray, gradients: Iterator[np.ndarray], lr: float, momentum: float, nesterov: bool) -> None:
    v = np.zeros_like(p)
    for g in gradients:
        v = momentum * v - lr * g
        p += momentum * v - lr * g if nesterov else v


def adam(p: np.ndarray, gradients: Iterator[np.ndarray], lr: float, b1: float, b2: float, eps: float) -> None:
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        p -= lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)


def nadam(p: np.ndarray, gradients: Iterator[np.ndarray], lr: float, psi: float) -> None:
    m, v, product = np.zeros_like(p), np.zeros_like(p), 1.0
    for t, g in enumerate(gradients, start=1):
        now, later = (0.9 * (1 - 0.5 * 0.96 ** (s * psi)) for s in (t, t + 1))
        product *= now
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        mean = later * m / (1 - product * later) + (1 - now) * g / (1 - product)
        p -= lr * mean / (np.sqrt(v / (1 - 0.999**t)) + 1e-7)


def adagrad(p: np.ndarray, gradients: Iterator[np.ndarray], lr: float, start: float) -> None:
    total = np.full_like(p, start)
    for g in gradients:
        total += g**2
        p -= lr * g / (np.sqrt(total) + 1e-7)


def adadelta(p: np.ndarray, gradients: Iterator[np.ndarray], lr: float, rho: float) -> None:
    v, w = np.zeros_like(p), np.zeros_like(p)
    for g in gradients:
        v = rho * v + (1 - rho) * g**2
        step = np.sqrt(w + 1e-7) / np.sqrt(v + 1e-7) * g
        w = rho * w + (1 - rho) * step**2
        p -= lr * step


def rmsprop(p: np.ndarray, gradients: Iterator[np.ndarray], lr: float, momentum: float, centered: bool) -> None:
    v, m, b = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
    for g in gradients:
        v = 0.9 * v + 0.1 * g**2
        m = 0.9 * m + 0.1 * g
        b = momentum * b + lr * g / (np.sqrt(v - m**2 if centered else v) + 1e-7)
        p -= b


CASES = [
    (lambda: Nadam(), nadam, (0.001, 1.0)),
    (lambda: Nadam(0.01, momentum_decay=0.004), nadam, (0.01, 0.004)),
    (lambda: Adagrad(), adagrad, (0.001, 0.1)),
    (lambda: Adagrad(0.1, initial_accumulator_value=0.0), adagrad, (0.1, 0.0)),
    (lambda: Adadelta(), adadelta, (0.001, 0.95)),
    (lambda: Adadelta(1.0, rho=0.9), adadelta, (1.0, 0.9)),
    (lambda: RMSprop(), rmsprop, (0.001, 0.0, False)),
    (lambda: RMSprop(0.01, momentum=0.9), rmsprop, (0.01, 0.9, False)),
    (lambda: RMSprop(0.01, momentum=0.5, centered=True), rmsprop, (0.01, 0.5, True)),
    (lambda: SGD(), sgd, (0.01, 0.0, False)),
    (lambda: SGD(0.1, momentum=0.9), sgd, (0.1, 0.9, False)),
    (lambda: SGD(0.05, momentum=0.8, nesterov=True), sgd, (0.05, 0.8, True)),
    (lambda: Adam(), adam, (0.001, 0.9, 0.999, 1e-7)),
    (lambda: Adam(0.1, beta_1=0.5, beta_2=0.9, epsilon=1e-3), adam, (0.1, 0.5, 0.9, 1e-3)),
]


def gradients(dtype: Any) -> Iterator[np.ndarray]:
    """Gradients of many sizes, among them exact zeros."""
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        g = rng.standard_normal(SIZE) * 10.0 ** rng.uniform(-4, 2, SIZE)
        g[::17] = 0
        yield g.astype(dtype)


@pytest.mark.parametrize(("make", "formula", "arguments"), CASES, ids=lambda value: None)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 2e-4)])
def test_trajectory(make: Callable[[], Optimizer], formula: Any, arguments: Any, dtype: Any, tolerance: float) -> None:
    start = np.random.default_rng(1).standard_normal(SIZE)
    expected = start.astype(dtype).astype(np.float64)
    formula(expected, (g.astype(np.float64) for g in gradients(dtype)), *arguments)
    optimizer, p = make(), start.astype(dtype)
    for g in gradients(dtype):
        kept = g.copy()
        optimizer.update(p, g)
        np.testing.assert_array_equal(g, kept)
    assert optimizer.iterations == STEPS
    np.testing.assert_allclose(p, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("make", [case[0] for case in CASES])
class TestEveryOptimizer:
    def test_continues_from_saved_state(self, make: Callable[[], Optimizer]) -> None:
        whole, first, p, q = make(), make(), np.ones(SIZE), np.ones(SIZE)
        steps = list(gradients(np.float64))
        for g in steps:
            whole.update(p, g)
        for g in steps[:40]:
            first.update(q, g)
        second = make()
        second.restore(first.iterations, first.state)
        for g in steps[40:]:
            second.update(q, g)
        np.testing.assert_array_equal(p, q)

    def test_configuration_makes_the_same(self, make: Callable[[], Optimizer]) -> None:
        optimizer = make()
        optimizer.learning_rate = 0.125
        classes = {kind.__name__: kind for kind in optimizers.NAMES.values()}
        again = restore(json.loads(json.dumps(describe(optimizer))), classes)
        assert describe(again) == describe(optimizer)
        assert again.learning_rate == 0.125

    def test_state_is_flat_and_found_only_where_needed(self, make: Callable[[], Optimizer]) -> None:
        optimizer = make()
        optimizer.update(np.ones(3), np.ones(3))
        assert all(array.shape == (3,) for array in optimizer.state.values())
        velocity = {"velocity"} if getattr(optimizer, "momentum", 0) else set()
        centre = {"mean"} if getattr(optimizer, "centered", False) else set()
        expected = {
            "SGD": velocity,
            "Adagrad": {"accumulator"},
            "Adadelta": {"mean_square", "mean_square_step"},
            "RMSprop": {"mean_square"} | centre | velocity,
        }
        assert set(optimizer.state) == expected.get(type(optimizer).__name__, {"first_moment", "second_moment"})


TORCH = [
    ("SGD", {"lr": 0.05, "momentum": 0.9}, lambda: SGD(0.05, momentum=0.9)),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}, lambda: SGD(0.05, momentum=0.9, nesterov=True)),
    ("Adam", {"lr": 0.01, "eps": 1e-7}, lambda: Adam(0.01)),
    ("AdamW", {"lr": 0.01, "eps": 1e-7, "weight_decay": 0.1}, lambda: AdamW(0.01, weight_decay=0.1)),
    ("NAdam", {"lr": 0.01, "eps": 1e-7}, lambda: Nadam(0.01, momentum_decay=0.004)),
    ("Adagrad", {"lr": 0.1, "eps": 1e-7}, lambda: Adagrad(0.1, initial_accumulator_value=0.0)),
    ("Adadelta", {"lr": 1.0, "rho": 0.9, "eps": 1e-6}, lambda: Adadelta(1.0, rho=0.9, epsilon=1e-6)),
    ("RMSprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-7}, lambda: RMSprop(0.01)),
    (
        "RMSprop",
        {"lr": 0.01, "alpha": 0.9, "eps": 1e-7, "momentum": 0.9, "centered": True},
        lambda: RMSprop(0.01, momentum=0.9, centered=True),
    ),
]


@pytest.mark.parametrize(("name", "settings", "make"), TORCH, ids=[f"{name}-{len(s)}" for name, s, _ in TORCH])
def test_pytorch_s_namesake_makes_the_same_steps(
    name: str, settings: dict[str, Any], make: Callable[[], Optimizer]
) -> None:
    torch = pytest.importorskip("torch")
    p = np.random.default_rng(1).standard_normal(SIZE)
    peer = torch.tensor(p, requires_grad=True)
    theirs, ours = getattr(torch.optim, name)([peer], **settings), make()
    for g in gradients(np.float64):
        ours.apply(p, g.copy())
        peer.grad = torch.tensor(g)
        theirs.step()
    tolerance = 1e-5 if name == "NAdam" else 1e-9  # whose product of momenta PyTorch keeps in float32
    np.testing.assert_allclose(p, peer.detach().numpy(), rtol=tolerance, atol=1e-12)


def test_a_schedule_gives_each_step_its_rate() -> None:
    optimizer, p, seen = SGD(StepDecay(1.0, 2, 0.5)), np.zeros(1), []
    for _ in range(5):
        before = p.copy()
        optimizer.update(p, np.ones(1))
        seen.append((before - p).item())
    assert seen == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert optimizer.learning_rate == 0.25
    optimizer.learning_rate = 3.0
    assert optimizer.learning_rate == 3.0


def test_configuration_keeps_schedule_and_options() -> None:
    optimizer = Adam(CosineDecay(0.1, 100), weight_decay=0.5, clipnorm=2.0)
    classes = {"Adam": Adam, "CosineDecay": CosineDecay}
    again = restore(json.loads(json.dumps(describe(optimizer))), classes)
    assert describe(again) == describe(optimizer)
    assert (again.weight_decay, again.clipnorm, again.clipvalue) == (0.5, 2.0, None)
    assert again.learning_rate == 0.1
    assert "CosineDecay(initial_learning_rate=0.1" in repr(again)


def test_clipping() -> None:
    """By value each number, by norm each parameter, by global norm all of them; what is small enough stays."""
    g = np.array([3.0, -4.0, 0.6, 0.8])
    for options, expected in (
        ({"clipvalue": 0.7}, [0.7, -0.7, 0.6, 0.7]),
        ({"clipnorm": 2.5}, [1.5, -2.0, 0.6, 0.8]),
        ({"global_clipnorm": math.sqrt(26) / 2}, [1.5, -2.0, 0.3, 0.4]),
        ({"global_clipnorm": 100.0}, g),
    ):
        p = np.zeros(4)
        SGD(1.0, **options).apply(p, g.copy(), [2, 2])
        np.testing.assert_allclose(p, -np.asarray(expected), rtol=1e-15)


def test_norms_of_large_float32_do_not_overflow() -> None:
    p = np.zeros(2, np.float32)
    SGD(1.0, global_clipnorm=1.0).apply(p, np.array([3e30, 4e30], np.float32))
    np.testing.assert_allclose(p, [-0.6, -0.8], rtol=1e-6)


def test_weight_decay_leaves_the_gradient_alone() -> None:
    steps = list(gradients(np.float64))
    p, q = np.ones(SIZE), np.ones(SIZE)
    decayed, plain = AdamW(0.01, weight_decay=0.1), Adam(0.01)
    for g in steps:
        decayed.apply(p, g)
        q *= 1 - 0.01 * 0.1
        plain.update(q, g)
    np.testing.assert_array_equal(p, q)


def test_names_and_defaults_are_keras_s() -> None:
    assert describe(optimizers.get("sgd"))["config"] == {
        "learning_rate": 0.01,
        "momentum": 0.0,
        "nesterov": False,
    }
    assert describe(optimizers.get("adam"))["config"] == {
        "learning_rate": 0.001,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "epsilon": 1e-7,
    }
    assert isinstance(optimizers.get(Adam), Adam)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: SGD(learning_rate=-0.1), ValueError, "learning_rate.*at least 0.*-0.1"),
        (lambda: SGD(learning_rate=math.nan), ValueError, "learning_rate.*nan"),
        (lambda: SGD(learning_rate=math.inf), ValueError, "learning_rate.*finite.*inf"),
        (lambda: SGD(learning_rate="fast"), TypeError, "learning_rate.*number.*'fast'"),
        (lambda: SGD(momentum=1.0), ValueError, "momentum.*below 1.*1.0"),
        (lambda: Adam(beta_2=1), ValueError, "beta_2.*below 1"),
        (lambda: Adam(epsilon=-1e-9), ValueError, "epsilon.*at least 0"),
        (lambda: setattr(SGD(), "learning_rate", -1), ValueError, "learning_rate"),
        (lambda: SGD(clipnorm=1.0, clipvalue=1.0), ValueError, "one way to clip.*clipnorm and clipvalue"),
        (lambda: SGD(global_clipnorm=0), ValueError, "global_clipnorm.*above 0.*0"),
        (lambda: Adam(weight_decay=-1), ValueError, "weight_decay.*at least 0"),
        (lambda: Adam(decay=1), TypeError, "unexpected keyword argument 'decay'"),
        (lambda: optimizers.get("adamm"), ValueError, "'sgd', 'adam'.*'adamm'.*did you mean 'adam'"),
        (lambda: optimizers.get(0.1), TypeError, "optimizer.*0.1 of type float"),
        (lambda: Optimizer(0.1).update(np.ones(1), np.ones(1)), NotImplementedError, "must define update"),
    ],
)
def test_errors_teach(make: Callable[[], Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()


def test_state_of_another_model_is_refused() -> None:
    optimizer = Adam()
    optimizer.update(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="first_moment"):
        optimizer.update(np.ones(4), np.ones(4))
