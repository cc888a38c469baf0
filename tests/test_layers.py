"""One test for all layers, and what follows when layers stand in a row."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from fastconv import initializers, layers
from fastconv._call import Arena
from fastconv._config import describe, restore
from fastconv.gradcheck import gradcheck
from fastconv.layers import (
    Activation,
    AvgPool2D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2D,
    Input,
    Layer,
    LeakyReLU,
    MaxPool2D,
    ReLU,
    Softmax,
    Stack,
)
from fastconv.training import Sequential

CLASSES = {
    name: getattr(module, name)
    for module in (layers, initializers)
    for name in module.__all__
    if isinstance(getattr(module, name), type)
} | {"Sequential": Sequential}


@dataclass(frozen=True)
class Case:
    """A layer, what it receives, what it should give."""

    make: Callable[[], Layer]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int = 0

    def __str__(self) -> str:
        return repr(self.make())


CASES = [
    Case(lambda: Conv2D(3, 3), (2, 5, 6), (3, 3, 4), 57),
    Case(lambda: Conv2D(3, 3, use_bias=False), (2, 5, 5), (3, 3, 3), 54),
    Case(lambda: Conv2D(2, (3, 2), strides=(2, 1), padding="same"), (1, 5, 4), (2, 3, 4), 14),
    Case(lambda: Conv2D(4, 3, padding=1, groups=2), (4, 4, 4), (4, 4, 4), 76),
    Case(lambda: Conv2D(2, 2, dilation_rate=2, padding=((1, 0), (0, 2))), (1, 4, 3), (2, 3, 3), 10),
    *(
        Case(lambda name=name: Conv2D(2, 2, activation=name), (2, 3, 3), (2, 2, 2), 18)
        for name in ("linear", "relu", "leaky_relu", "sigmoid", "tanh", "softmax")
    ),
    Case(lambda: Dense(4), (3,), (4,), 16),
    Case(lambda: Dense(4, use_bias=False), (3,), (4,), 12),
    *(
        Case(lambda name=name: Dense(3, activation=name), (5,), (3,), 18)
        for name in ("linear", "relu", "leaky_relu", "sigmoid", "tanh", "softmax")
    ),
    Case(lambda: MaxPool2D(), (2, 4, 5), (2, 2, 2)),
    Case(lambda: MaxPool2D((3, 2), strides=1, padding="same"), (2, 4, 3), (2, 4, 3)),
    Case(lambda: MaxPool2D(3, strides=2, padding=1), (1, 5, 5), (1, 3, 3)),
    Case(lambda: AvgPool2D(), (2, 4, 5), (2, 2, 2)),
    Case(lambda: AvgPool2D(3, strides=2, padding="same"), (2, 5, 4), (2, 3, 2)),
    Case(lambda: GlobalAvgPool2D(), (3, 4, 2), (3,)),
    Case(lambda: Flatten(), (2, 3, 4), (24,)),
    Case(lambda: Input((2, 3)), (2, 3), (2, 3)),
    Case(lambda: Dropout(0.5), (6,), (6,)),
    Case(lambda: ReLU(), (2, 3, 3), (2, 3, 3)),
    Case(lambda: LeakyReLU(0.2), (7,), (7,)),
    Case(lambda: Softmax(), (3, 2, 2), (3, 2, 2)),
    *(
        Case(lambda name=name: Activation(name), (5,), (5,))
        for name in ("linear", "relu", "leaky_relu", "sigmoid", "tanh", "softmax")
    ),
    Case(
        lambda: Stack([Conv2D(2, 2), MaxPool2D(2), Stack([Flatten(), Dense(3)])]),
        (1, 5, 5),
        (3,),
        10 + 27,
    ),
    Case(lambda: Sequential([Dense(3, activation="tanh"), Dense(2)]), (4,), (2,), 23),
]


def images(case: Case, dtype: Any = np.float64, count: int = 3) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((count, *case.input_shape)).astype(dtype)


def built(case: Case, dtype: Any = np.float64) -> Layer:
    layer = case.make()
    layer.build(case.input_shape, np.random.default_rng(1), dtype)
    return layer


@pytest.mark.parametrize("case", CASES, ids=str)
class TestEveryLayer:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_output_has_the_shape_that_was_computed(self, case: Case, dtype: Any) -> None:
        layer = case.make()
        assert layer.compute_output_shape(case.input_shape) == case.output_shape
        layer.build(case.input_shape, np.random.default_rng(1), dtype)
        y = layer(images(case, dtype))
        assert layer.output_shape == case.output_shape
        assert y.shape == (3, *case.output_shape)
        assert y.dtype == dtype
        assert sum(parameter.value.size for parameter in layer.parameters) == case.parameters
        assert layer(images(case, dtype, count=0)).shape == (0, *case.output_shape)

    def test_gradients_are_central_differences(self, case: Case) -> None:
        assert gradcheck(case.make(), images(case))

    def test_parameters_get_the_same_gradient_without_the_input_s(self, case: Case) -> None:
        layer, x = built(case), images(case)
        y, backward = layer.forward(x, training=True)
        grad_y = np.random.default_rng(2).standard_normal(y.shape)
        backward(grad_y)
        expected = [parameter.grad.copy() for parameter in layer.parameters]
        for parameter in layer.parameters:
            parameter.grad.fill(np.nan)
        backward(grad_y, input_grad=False)
        for parameter, gradient in zip(layer.parameters, expected, strict=True):
            np.testing.assert_array_equal(parameter.grad, gradient)

    def test_configuration_makes_the_same_layer(self, case: Case) -> None:
        layer, x = built(case), images(case)
        description = json.loads(json.dumps(describe(layer)))
        again = restore(description, CLASSES)
        assert type(again) is type(layer)
        assert not again.built
        assert describe(again) == description
        again.build(case.input_shape, np.random.default_rng(1), np.float64)
        np.testing.assert_array_equal(again(x), layer(x))

    def test_training_computes_what_inference_does(self, case: Case) -> None:
        layer, x = built(case), images(case)
        if isinstance(layer, Dropout):
            assert not np.array_equal(layer.forward(x, training=True)[0], layer(x))
        else:
            np.testing.assert_array_equal(layer.forward(x, training=True)[0], layer(x))

    def test_threads_share_a_layer(self, case: Case) -> None:
        layer = built(case, np.float32)
        batches = [images(case, np.float32) * k for k in range(1, 17)]
        expected = [layer(batch) for batch in batches]
        with ThreadPoolExecutor(8) as pool:
            for y, y_expected in zip(pool.map(layer, batches), expected, strict=True):
                np.testing.assert_array_equal(y, y_expected)

    def test_a_copy_is_independent(self, case: Case) -> None:
        layer, x = built(case), images(case)
        expected = layer(x)
        for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            np.testing.assert_array_equal(twin(x), expected)
            for parameter in twin.parameters:
                parameter.value.fill(0)
        np.testing.assert_array_equal(layer(x), expected)


def test_first_call_builds() -> None:
    layer = Dense(2)
    y = layer(np.ones((1, 3), np.float32))
    assert layer.built
    assert layer.input_shape == (3,)
    assert y.dtype == np.float32


def test_same_seed_gives_the_same_first_weights_in_both_dtypes() -> None:
    single, double = (
        Sequential([Conv2D(3, 3), Flatten(), Dense(2)], seed=5, dtype=dtype) for dtype in ("float32", "float64")
    )
    for model in (single, double):
        model.build((1, 6, 6))
    for a, b in zip(single.get_weights(), double.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b.astype(np.float32))


def test_average_pooling_leaves_padding_out_as_keras_does() -> None:
    pooled = AvgPool2D(3, strides=1, padding="same")(np.ones((1, 1, 3, 3)))
    np.testing.assert_allclose(pooled, 1, rtol=1e-15)


class TestDropout:
    def test_keeps_the_mean_and_drops_the_share(self) -> None:
        layer = Dropout(0.25)
        layer.build((100, 100), np.random.default_rng(0))
        y, _ = layer.forward(np.ones((10, 100, 100), np.float32), training=True)
        assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
        assert abs(np.mean(y == 0) - 0.25) < 0.01

    def test_gradient_passes_where_numbers_passed(self) -> None:
        layer = Dropout(0.5)
        layer.build((50,), np.random.default_rng(0))
        y, backward = layer.forward(np.ones((2, 50)), training=True)
        np.testing.assert_array_equal(backward(np.ones((2, 50))), y)

    def test_same_seed_same_mask(self) -> None:
        masks = []
        for _ in range(2):
            layer = Dropout(0.5)
            layer.build((50,), np.random.default_rng(3))
            masks.append(layer.forward(np.ones((2, 50)), training=True)[0])
        np.testing.assert_array_equal(*masks)


class Spy(Layer):
    """Passes data through and writes down which gradients were asked for."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name)
        self.asked: list[bool] = []

    def forward(self, x: np.ndarray, training: bool = False) -> tuple[np.ndarray, Any]:
        def backward(grad_y: np.ndarray, input_grad: bool = True) -> np.ndarray:
            self.asked.append(input_grad)
            return grad_y

        return x, backward


class TestStack:
    def test_backward_stops_at_the_first_layer_that_learns(self) -> None:
        below, above = Spy("below"), Spy("above")
        stack = Stack([below, Dense(3), above, Dense(2)])
        stack.build((4,))
        y, backward = stack.forward(np.ones((1, 4), np.float32), training=True)
        backward(np.ones_like(y), input_grad=False)
        assert below.asked == []
        assert above.asked == [True]
        assert backward(np.ones_like(y)).shape == (1, 4)
        assert below.asked == [True]

    def test_a_nested_stack_stops_too(self) -> None:
        spy = Spy()
        stack = Stack([Stack([spy, Dense(3)]), Dense(2)])
        stack.build((4,))
        y, backward = stack.forward(np.ones((1, 4), np.float32), training=True)
        backward(np.ones_like(y), input_grad=False)
        assert spy.asked == []

    def test_names_are_made_unique(self) -> None:
        stack = Stack([Dense(1), Dense(1), Flatten(), Dense(1, name="head"), Dense(1)])
        names = [layer.name for layer in stack.layers]
        assert names == ["dense", "dense_1", "flatten", "head", "dense_2"]

    def test_empty_stack_is_the_identity(self) -> None:
        stack = Stack()
        stack.build((2,))
        x = np.ones((1, 2))
        y, backward = stack.forward(x)
        np.testing.assert_array_equal(y, x)
        np.testing.assert_array_equal(backward(x), x)

    def test_built_layers_keep_their_weights(self) -> None:
        dense = Dense(2)
        dense.build((3,), np.random.default_rng(0), np.float64)
        before = dense.kernel.value.copy()
        Sequential([dense, Dense(1)], dtype="float64").build((3,))
        np.testing.assert_array_equal(dense.kernel.value, before)

    def test_layers_can_be_added_one_by_one(self) -> None:
        model = Sequential(seed=0)
        model.add(Input((1, 6, 6)))
        assert model.built
        for layer in (Conv2D(2, 3), Flatten(), Dense(4)):
            model.add(layer)
        assert model.output_shape == (4,)
        assert model.predict(np.zeros((2, 1, 6, 6))).shape == (2, 4)

    def test_set_weights_is_all_or_nothing(self) -> None:
        model = Sequential([Dense(2, input_shape=3), Dense(1)], seed=0)
        before = model.get_weights()
        wrong = [*(np.zeros_like(weight) for weight in before[:-1]), np.zeros(7)]
        with pytest.raises(ValueError, match=r"weights\[3\], a bias, of shape \(1,\).*\(7,\)"):
            model.set_weights(wrong)
        for a, b in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(a, b)


def twice() -> Stack:
    dense = Dense(2)
    return Stack([dense, Stack([dense])])


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: Conv2D(0, 3), ValueError, "filters.*at least 1.*0"),
        (lambda: Conv2D(2.5, 3), TypeError, "filters.*int.*2.5"),
        (lambda: Conv2D(2, (3, 3, 3)), ValueError, "kernel_size.*pair.*3 values"),
        (lambda: Conv2D(2, 3, strides=0), ValueError, "strides.*at least 1"),
        (lambda: Conv2D(2, 3, activation="rleu"), ValueError, "did you mean 'relu'"),
        (lambda: Conv2D(2, 3, activation=np.tanh), TypeError, "activation.*string"),
        (lambda: Dense(-1), ValueError, "units.*at least 1.*-1"),
        (lambda: Dense(2, kernel_initializer="glorot"), ValueError, "did you mean 'glorot_"),
        (lambda: Dropout(1), ValueError, "rate.*below 1.*1"),
        (lambda: Dropout("half"), TypeError, "rate.*number"),
        (lambda: LeakyReLU(0), ValueError, "negative_slope above 0.*ReLU"),
        (lambda: Input((1, 0)), ValueError, "input_shape.*at least 1"),
        (lambda: Input((None, 3)), TypeError, "input_shape.*int.*None"),
        (lambda: Dense(1, name=3), TypeError, "name.*string"),
        (lambda: Stack([Dense]), TypeError, r"make one, Dense\(\.\.\.\)"),
        (lambda: Stack([Dense(1, name="a"), Dense(1, name="a")]), ValueError, "unique.*'a' twice"),
        (lambda: Stack([layer := Dense(1), layer]), ValueError, "each layer once.*'dense' twice"),
        (lambda: twice().build((2,)), ValueError, "each layer once"),
        (lambda: Dense(2).build((3, 4)), ValueError, r"\(features,\).*\(3, 4\).*Flatten\(\)"),
        (lambda: Conv2D(2, 3).build((28, 28)), ValueError, "add the channel axis"),
        (lambda: Conv2D(2, 3).build((64,)), ValueError, "before Flatten"),
        (lambda: Conv2D(2, 7).build((1, 5, 5)), ValueError, r"floor\(.*\) \+ 1"),
        (lambda: Conv2D(3, 1, groups=2).build((4, 5, 5)), ValueError, "groups to divide.*2"),
        (lambda: MaxPool2D(2, padding=2).build((1, 4, 4)), ValueError, "padding.*half the kernel"),
        (
            lambda: Stack([Flatten(), Conv2D(2, 3)]).build((1, 5, 5)),
            ValueError,
            r"layer 1 \('conv2d'\) on input \(25,\)",
        ),
        (
            lambda: Sequential([Dense(1, input_shape=3)]).build((4,)),
            ValueError,
            r"layer 0 \('dense'\) to receive \(3,\).*\(4,\)",
        ),
        (lambda: Dense(2).forward(np.ones((1, 2))), RuntimeError, "built layer.*'bias'.*build"),
        (lambda: Dropout(0.5).forward(np.ones(2), True), RuntimeError, "'dropout' to be built"),
        (lambda: Dense(2)([[1.0]]), TypeError, r"NumPy array.*list.*np.asarray"),
        (lambda: Layer()(np.ones((1, 2), np.float32)), NotImplementedError, "Layer must define"),
        (lambda: Sequential(dtype="float16"), ValueError, "float32 or float64.*float16"),
        (lambda: Sequential(seed=-1), ValueError, "seed"),
    ],
)
def test_errors_teach(make: Callable[[], Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()


def test_a_custom_layer_with_parameters_learns() -> None:
    class Scale(Layer):
        def __init__(self, name: str | None = None) -> None:
            super().__init__(name=name)
            self.factor = self.add_parameter("factor", "ones")

        def parameter_shapes(self, input_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
            return [input_shape]

        def forward(self, x: np.ndarray, training: bool = False) -> tuple[np.ndarray, Any]:
            def backward(grad_y: np.ndarray, input_grad: bool = True) -> np.ndarray:
                np.sum(grad_y * x, axis=0, out=self.factor.grad)
                return grad_y * self.factor.value

            return x * self.factor.value, backward

    assert gradcheck(Scale(), np.random.default_rng(0).standard_normal((4, 3)))
    model = Sequential([Scale()], seed=0)
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).standard_normal((64, 3))
    model.fit(x, x * [1.0, -2.0, 0.5], epochs=300, verbose=0, batch_size=16)
    np.testing.assert_allclose(model.get_weights()[0], [1.0, -2.0, 0.5], atol=1e-2)


class Save(Layer):
    """Begins a skip connection: what it was given is added further down, and the gradient comes back here."""

    kept: np.ndarray
    returned: np.ndarray

    def forward(self, x: np.ndarray, training: bool = False) -> tuple[np.ndarray, Any]:
        self.kept = x

        def backward(grad_y: np.ndarray, input_grad: bool = True) -> np.ndarray:
            return grad_y + self.returned

        return x, backward


class Add(Layer):
    """Ends the connection that `start` began."""

    def __init__(self, start: Save) -> None:
        super().__init__()
        self.start = start

    def forward(self, x: np.ndarray, training: bool = False) -> tuple[np.ndarray, Any]:
        def backward(grad_y: np.ndarray, input_grad: bool = True) -> np.ndarray:
            self.start.returned = grad_y
            return grad_y

        return x + self.start.kept, backward


@pytest.mark.parametrize("skip", ["no", "flat", "nested"])
def test_memory_of_a_step_changes_no_gradient(skip: str) -> None:
    """Inside an arena, where layers take turns unless some of them may share arrays, as outside."""
    save, nested = Save(), skip == "nested"
    first, last = [Dense(300), ReLU()], [Dense(300, activation="relu"), Dense(3)]
    middle = [Dense(300, activation="tanh"), ReLU(), Dense(300), LeakyReLU()]
    if nested:
        middle = [Stack(middle[:2]), *middle[2:]]
    begin = [Stack(first)] if nested else first
    end = [Stack(last)] if nested else last
    stack = Stack([*begin, *middle, *end] if skip == "no" else [*begin, save, *middle, Add(save), *end])
    rng = np.random.default_rng(0)
    stack.build((300,), rng)
    x, grad = rng.standard_normal((300, 300), np.float32), rng.standard_normal((300, 3), np.float32)
    y, backward = stack.forward(x, True)
    grad_x = backward(grad)
    expected = [y.copy(), grad_x.copy(), *(parameter.grad.copy() for parameter in stack.parameters)]
    inferred = stack(x)
    arena = Arena()
    for _ in range(3):
        with arena:
            y, backward = stack.forward(x, True)
            grad_x = backward(grad)
            found = [y, grad_x, *(parameter.grad for parameter in stack.parameters)]
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(stack(x), inferred)
