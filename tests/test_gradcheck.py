"""The checker itself: it passes right gradients and names wrong ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv.gradcheck import GradientMismatchError, gradcheck
from fastconv.layers import Conv2D, Dense, Layer


def product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Any]:
    return a * b, lambda grad: (grad * b, grad * a)


def test_right_gradients_of_several_inputs() -> None:
    assert gradcheck(product, (np.array([1.0, 2.0]), np.array([-3.0, 0.5])))


def test_computation_graph_of_the_lecture() -> None:
    def cost(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, Any]:
        return 3 * (a + b * c), lambda grad: (3 * grad, 3 * c * grad, 3 * b * grad)

    inputs = tuple(np.array([value]) for value in (5.0, 3.0, 2.0))
    j, backward = cost(*inputs)
    assert j == 33
    assert [float(grad[0]) for grad in backward(np.ones(1))] == [3, 6, 9]
    assert gradcheck(cost, inputs)


def test_an_operator() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in ((2, 2, 4, 4), (3, 2, 3, 3), (3,))]

    def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, Any]:
        y = fc.conv2d(x, weight, bias, padding=1)
        return y, lambda grad: fc.conv2d_backward(grad, x, weight, padding=1)

    assert gradcheck(convolve, arrays)


def test_inputs_are_left_as_they_were() -> None:
    x = np.array([1.0, 2.0])
    gradcheck(product, (x, x))
    np.testing.assert_array_equal(x, [1.0, 2.0])


def test_an_input_without_a_gradient_is_skipped() -> None:
    def only_first(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Any]:
        return a * b, lambda grad: (grad * b, None)

    assert gradcheck(only_first, (np.ones(2), np.full(2, 3.0)))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (lambda grad, x: grad * x, r"input 0 at \(1,\) to be .*1 of 2 entries part"),
        (lambda grad, x: grad * np.nan, r"received nan; 2 of 2 entries part"),
        (lambda grad, x: (grad * 2 * x)[:1], r"to have its shape \(2,\); received \(1,\)"),
    ],
)
def test_wrong_gradients_are_named(wrong: Any, match: str) -> None:
    def square(x: np.ndarray) -> tuple[np.ndarray, Any]:
        return x * x, lambda grad: wrong(grad, x)

    with pytest.raises(GradientMismatchError, match=match):
        gradcheck(square, np.array([0.0, 2.0]))


def test_a_wrong_parameter_gradient_is_named() -> None:
    class Forgetful(Dense):
        def forward(self, x: np.ndarray, training: bool = False) -> tuple[np.ndarray, Any]:
            y, inner = super().forward(x, training)

            def backward(grad_y: np.ndarray, input_grad: bool = True) -> np.ndarray:
                grad_x = inner(grad_y, input_grad)
                self.bias.grad.fill(0)
                return grad_x

            return y, backward

    with pytest.raises(GradientMismatchError, match="parameter 1, a bias, of 'forgetful'"):
        gradcheck(Forgetful(2), np.ones((1, 3)))


def test_a_layer_in_float32_is_refused() -> None:
    layer: Layer = Conv2D(1, 2)
    layer(np.ones((1, 1, 3, 3), np.float32))
    with pytest.raises(TypeError, match=r"built in float64.*'conv2d' in float32"):
        gradcheck(layer, np.ones((1, 1, 3, 3)))


def test_too_few_gradients_are_refused() -> None:
    with pytest.raises(ValueError, match="2 gradients, one an input; received 1"):
        gradcheck(lambda a, b: (a * b, lambda grad: grad * b), (np.ones(1), np.ones(1)))
