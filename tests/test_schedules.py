"""Schedules: Keras's formulas, written out again; what they have in common; what they refuse."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from fastconv import schedules
from fastconv._config import describe, restore
from fastconv.schedules import (
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    PiecewiseConstantDecay,
    PolynomialDecay,
    Schedule,
    StepDecay,
    Warmup,
)


def cosine(done: float, alpha: float = 0.0) -> float:
    return alpha + (1 - alpha) * (1 + math.cos(math.pi * done)) / 2


# schedule, and the rates of some steps
CASES = [
    (ExponentialDecay(0.1, 10, 0.5), {0: 0.1, 5: 0.1 * 0.5**0.5, 30: 0.0125}),
    (ExponentialDecay(0.1, 10, 0.5, staircase=True), {0: 0.1, 9: 0.1, 10: 0.05, 19: 0.05}),
    (InverseTimeDecay(0.1, 10, 2.0), {0: 0.1, 5: 0.05, 10: 0.1 / 3}),
    (InverseTimeDecay(0.1, 10, 2.0, staircase=True), {9: 0.1, 19: 0.1 / 3, 20: 0.02}),
    (StepDecay(0.1, 30), {29: 0.1, 30: 0.01, 60: 0.001}),
    (PiecewiseConstantDecay([2, 5], [0.3, 0.2, 0.1]), {0: 0.3, 2: 0.3, 3: 0.2, 5: 0.2, 6: 0.1}),
    (PolynomialDecay(0.1, 10, 0.01, power=2.0), {0: 0.1, 5: 0.01 + 0.09 / 4, 10: 0.01, 99: 0.01}),
    (PolynomialDecay(0.1, 10, 0.0, cycle=True), {10: 0.0, 15: 0.025, 20: 0.0, 21: 0.1 * (1 - 21 / 30)}),
    (CosineDecay(0.1, 10, alpha=0.1), {0: 0.1, 3: 0.1 * cosine(0.3, 0.1), 10: 0.01, 50: 0.01}),
    (CosineDecay(0.0, 10, warmup_target=0.1, warmup_steps=4), {0: 0.0, 2: 0.05, 4: 0.1, 9: 0.05, 14: 0.0}),
    (CosineDecayRestarts(0.1, 10, m_mul=0.5), {0: 0.1, 5: 0.05, 10: 0.05, 20: 0.025, 30: 0.025, 50: 0.0125}),
    (CosineDecayRestarts(0.1, 10, t_mul=1.0, alpha=0.2), {0: 0.1, 9: 0.1 * cosine(0.9, 0.2), 10: 0.1, 25: 0.06}),
    (Warmup(0.1, 10, start=0.02), {0: 0.02, 5: 0.06, 10: 0.1, 99: 0.1}),
    (Warmup(StepDecay(0.1, 5, 0.5), 10), {5: 0.05, 10: 0.1, 14: 0.1, 15: 0.05}),
]


@pytest.mark.parametrize(("schedule", "rates"), CASES, ids=[repr(case[0]) for case in CASES])
class TestEverySchedule:
    def test_rates(self, schedule: Schedule, rates: dict[int, float]) -> None:
        for step, rate in rates.items():
            assert schedule(step) == pytest.approx(rate, rel=1e-12, abs=1e-15), step

    def test_configuration_makes_the_same(self, schedule: Schedule, rates: dict[int, float]) -> None:
        classes = {name: getattr(schedules, name) for name in schedules.__all__}
        again = restore(json.loads(json.dumps(describe(schedule))), classes)
        assert repr(again) == repr(schedule)
        assert [again(step) for step in rates] == [schedule(step) for step in rates]


def test_every_schedule_has_a_case() -> None:
    assert {type(schedule).__name__ for schedule, _ in CASES} == set(schedules.__all__) - {"Schedule"}


def test_restarts_are_where_they_belong_for_long() -> None:
    """Rounding of a logarithm must not put a restart one step early or late."""
    schedule, start = CosineDecayRestarts(1.0, 7, t_mul=3.0), 0
    for period in range(12):
        assert schedule(start) == pytest.approx(1.0, abs=1e-9)
        start += 7 * 3**period
        assert schedule(start - 1) < 0.1


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: StepDecay(-1.0, 10), ValueError, "initial_learning_rate.*at least 0.*-1"),
        (lambda: StepDecay("fast", 10), TypeError, "initial_learning_rate.*'fast'"),
        (lambda: StepDecay(1.0, 0), ValueError, "step_size.*at least 1.*0"),
        (lambda: StepDecay(1.0, 0.5), TypeError, "step_size.*0.5"),
        (lambda: PiecewiseConstantDecay([1], [1.0]), ValueError, "one value more.*1 boundaries and 1 values"),
        (lambda: PiecewiseConstantDecay([5, 2], [1.0, 2.0, 3.0]), ValueError, r"rising boundaries.*\[5, 2\]"),
        (lambda: CosineDecayRestarts(1.0, 10, t_mul=0.5), ValueError, "t_mul.*at least 1.*0.5"),
        (lambda: Schedule()(0), NotImplementedError, "must define rate"),
        (lambda: type("Bad", (Schedule,), {"rate": lambda self, step: -1.0})(), None, ""),
    ],
)
def test_errors_teach(make: Callable[[], Any], error: type[Exception] | None, match: str) -> None:
    if error is None:
        with pytest.raises(ValueError, match=r"finite rate of at least 0.*-1.0 at step 3"):
            make()(3)
        return
    with pytest.raises(error, match=match):
        make()
