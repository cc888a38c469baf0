"""First values: their fans, ranges, variances, and that a seed fixes them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv import initializers
from fastconv._config import describe, restore
from fastconv.initializers import Constant, Initializer, Orthogonal, RandomNormal, RandomUniform, fans

WEIGHT = (300, 40, 3, 5)
FAN_IN, FAN_OUT = 40 * 15, 300 * 15

# name: (variance of a weight, its largest magnitude)
SCALED = {
    "glorot_uniform": (2 / (FAN_IN + FAN_OUT), math.sqrt(6 / (FAN_IN + FAN_OUT))),
    "glorot_normal": (2 / (FAN_IN + FAN_OUT), None),
    "he_uniform": (2 / FAN_IN, math.sqrt(6 / FAN_IN)),
    "he_normal": (2 / FAN_IN, None),
    "lecun_uniform": (1 / FAN_IN, math.sqrt(3 / FAN_IN)),
    "lecun_normal": (1 / FAN_IN, None),
}


@pytest.mark.parametrize("name", SCALED)
def test_variance_and_range_follow_from_the_fans(name: str) -> None:
    variance, limit = SCALED[name]
    w = initializers.get(name, "it")(WEIGHT, np.float64, np.random.default_rng(0))
    assert w.shape == WEIGHT
    assert abs(w.mean()) < 5 * math.sqrt(variance / w.size)
    assert w.var() == pytest.approx(variance, rel=0.01)
    cut = 2 * math.sqrt(variance) / initializers.TRUNCATED_STDDEV if limit is None else limit
    assert 0.99 * cut < np.abs(w).max() <= cut


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (6, 6), (4, 3, 2, 2), (30, 2, 3)])
def test_orthogonal_rows_or_columns(shape: tuple[int, ...]) -> None:
    w = Orthogonal(2.0)(shape, np.float64, np.random.default_rng(0)).reshape(shape[0], -1)
    short = w if len(w) <= w.shape[1] else w.T
    np.testing.assert_allclose(short @ short.T, 4 * np.eye(len(short)), atol=1e-12)


def test_orthogonal_matrices_take_every_sign() -> None:
    """Without the triangle's signs the first entry of the factor would always be negative."""
    rng = np.random.default_rng(0)
    signs = {float(np.sign(Orthogonal()((3, 3), np.float64, rng)[0, 0])) for _ in range(20)}
    assert signs == {-1.0, 1.0}
    with pytest.raises(ValueError, match=r"\(out, in, \*kernel\).*\(3,\)"):
        Orthogonal()((3,))


def test_the_truncation_constant_is_that_of_the_truncated_normal() -> None:
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    inside = math.erf(2 / math.sqrt(2))
    expected = math.sqrt(1 - 4 * density / inside)
    assert pytest.approx(expected, rel=1e-12) == initializers.TRUNCATED_STDDEV


@given(st.integers(1, 50), st.integers(1, 50), st.lists(st.integers(1, 5), max_size=3))
def test_fans_count_connections(out: int, into: int, taps: list[int]) -> None:
    fan_in, fan_out = fans((out, into, *taps))
    assert fan_in * out == fan_out * into == out * into * math.prod(taps)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: initializers.get("zeros", "it"), 0.0),
        (lambda: initializers.get("ones", "it"), 1.0),
        (lambda: Constant(-2.5), -2.5),
    ],
)
def test_constants(make: Callable[[], Initializer], expected: float) -> None:
    np.testing.assert_array_equal(make()((3, 2)), np.full((3, 2), expected, np.float32))


def test_random_normal_and_uniform() -> None:
    rng = np.random.default_rng(0)
    normal = RandomNormal(mean=1.0, stddev=0.5)((100_000,), np.float64, rng)
    assert normal.mean() == pytest.approx(1.0, abs=0.01)
    assert normal.std() == pytest.approx(0.5, rel=0.01)
    uniform = RandomUniform(-1.0, 3.0)((100_000,), np.float64, rng)
    assert -1 <= uniform.min() < -0.99
    assert 2.99 < uniform.max() < 3
    cut = initializers.TruncatedNormal(stddev=0.5)((100_000,), np.float64, rng)
    assert 0.99 < np.abs(cut).max() <= 1.0


@pytest.mark.parametrize("name", initializers.NAMES)
class TestEveryInitializer:
    def test_a_seed_fixes_the_bits_in_both_dtypes(self, name: str) -> None:
        draw = initializers.get(name, "it")
        first = draw((4, 3, 2), np.float64, np.random.default_rng(9))
        second = draw((4, 3, 2), np.float32, np.random.default_rng(9))
        assert second.dtype == np.float32
        np.testing.assert_array_equal(first.astype(np.float32), second)

    def test_configuration_makes_the_same(self, name: str) -> None:
        draw = initializers.get(name, "it")
        classes = {kind.__name__: kind for kind in initializers.NAMES.values()}
        again = restore(json.loads(json.dumps(describe(draw))), classes)
        np.testing.assert_array_equal(
            draw((5, 5), rng=np.random.default_rng(1)), again((5, 5), rng=np.random.default_rng(1))
        )


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: initializers.get("he_norml", "x"), ValueError, "did you mean 'he_normal'"),
        (lambda: initializers.get(3, "x"), TypeError, "expected x to be .*received 3"),
        (lambda: RandomNormal(stddev=0), ValueError, "stddev above 0.*0"),
        (lambda: RandomUniform(1.0, -1.0), ValueError, "minval < maxval"),
        (lambda: initializers.HeNormal()((5,)), ValueError, r"\(out, in, \*kernel\).*\(5,\)"),
        (lambda: Initializer()((5,)), NotImplementedError, "must define draw"),
    ],
)
def test_errors_teach(make: Callable[[], object], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()
