"""The plain NumPy trainer makes the model's own steps: same weights and batches, same losses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastconv as fc
from fastconv import models, optimizers
from fastconv.layers import Layer
from fastconv.numpy_baseline import NumpyTrainer

SHAPE = (2, 9, 8)


def conv_net(*last: Layer) -> fc.Sequential:
    """Every layer and every activation there is, nested."""
    return fc.Sequential(
        [
            fc.Input(SHAPE),
            fc.Conv2D(4, 3, padding="same", strides=(1, 2), activation="leaky_relu"),
            fc.Sequential([fc.MaxPool2D(3, strides=1, padding="same"), fc.ReLU()]),
            fc.Conv2D(6, (3, 1), dilation_rate=2, padding=1, groups=2, use_bias=False),
            fc.Activation("tanh"),
            fc.AvgPool2D(2, strides=1, padding="same"),
            fc.LeakyReLU(0.2),
            fc.Sequential([fc.Flatten(), fc.Dropout(0.25), fc.Dense(7, activation="sigmoid")]),
            fc.Dense(4, use_bias=False),
            *last,
        ],
        seed=1,
        dtype="float64",
    )


def fully_convolutional(classes: int = 4) -> fc.Sequential:
    layers = [fc.Conv2D(classes, 3, input_shape=SHAPE, activation="softmax"), fc.GlobalAvgPool2D()]
    return fc.Sequential(layers, seed=1, dtype="float64")


CASES: dict[str, tuple[Any, Any, Any]] = {
    "lenet5, adam": (lambda: models.lenet5(SHAPE, 4, seed=1, dtype="float64"), "adam", None),
    "mlp, sgd": (lambda: models.mlp(SHAPE, 4, seed=1, dtype="float64"), "sgd", None),
    "every layer, momentum": (conv_net, optimizers.SGD(0.05, momentum=0.9), None),
    "every layer, nesterov": (conv_net, optimizers.SGD(0.05, momentum=0.9, nesterov=True), None),
    "softmax, adam": (lambda: conv_net(fc.Softmax()), optimizers.Adam(0.01), None),
    "probabilities": (fully_convolutional, "adam", None),
    "squares": (lambda: models.mlp(SHAPE, 1, seed=1, dtype="float64"), "adam", "mse"),
}


@pytest.mark.parametrize("case", CASES)
def test_same_losses_and_weights(case: str) -> None:
    build, optimizer, loss = CASES[case]
    model = build()
    model.compile(optimizer=optimizer, loss=loss or "sparse_categorical_crossentropy")
    baseline = NumpyTrainer(model)
    rng = np.random.default_rng(0)
    for _ in range(6):
        x, y = rng.standard_normal((5, *SHAPE)), rng.integers(0, 4, 5)
        assert_allclose(baseline.train_on_batch(x, y), model.train_on_batch(x, y), rtol=1e-9)


def test_float32() -> None:
    model = models.lenet5((1, 12, 12), 4, seed=1)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    baseline = NumpyTrainer(model)
    rng = np.random.default_rng(0)
    for _ in range(6):
        x, y = rng.random((5, 1, 12, 12), dtype=np.float32), rng.integers(0, 4, 5)
        assert_allclose(baseline.train_on_batch(x, y), model.train_on_batch(x, y)[0], rtol=1e-4)


def test_it_continues_where_the_model_stands() -> None:
    model = models.mlp(SHAPE, 4, seed=1, dtype="float64")
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, *SHAPE)), rng.integers(0, 4, 5)
    model.fit(x, y, epochs=3, verbose=0)
    baseline = NumpyTrainer(model)
    for _ in range(3):
        assert_allclose(baseline.train_on_batch(x, y), model.train_on_batch(x, y), rtol=1e-9)


def test_frozen_layers_stay() -> None:
    model = models.mlp(SHAPE, 4, hidden=(6, 5), seed=1, dtype="float64")
    model.layers[2].trainable = False
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    baseline = NumpyTrainer(model)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, *SHAPE)), rng.integers(0, 4, 5)
    for _ in range(4):
        assert_allclose(baseline.train_on_batch(x, y), model.train_on_batch(x, y), rtol=1e-9)


def test_the_model_is_not_changed() -> None:
    model = models.lenet5((1, 8, 8), 4, seed=1)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    before = [array.copy() for array in model.get_weights()]
    state = model.generator.bit_generator.state
    NumpyTrainer(model).train_on_batch(np.ones((2, 1, 8, 8), np.float32), np.array([0, 1]))
    for array, expected in zip(model.get_weights(), before, strict=True):
        assert_array_equal(array, expected)
    assert model.optimizer is not None
    assert model.optimizer.iterations == 0
    assert model.generator.bit_generator.state == state


class Twice(Layer):
    def forward(self, x: Any, training: bool = False) -> Any:
        return 2 * x, lambda grad_y, input_grad=True: 2 * grad_y


class Still(optimizers.Optimizer):
    def update(self, parameters: Any, gradients: Any) -> None:
        self.iterations += 1


@pytest.mark.parametrize(
    ("layers", "optimizer", "name"),
    [
        ([fc.Dense(3, input_shape=4), fc.Sequential([Twice()])], "sgd", "Twice"),
        ([fc.Dense(3, input_shape=4)], Still(0.1), "Still"),
    ],
)
def test_parts_it_does_not_know(layers: list[Layer], optimizer: Any, name: str) -> None:
    model = fc.Sequential(layers)
    model.compile(optimizer=optimizer, loss="mse")
    with pytest.raises(NotImplementedError, match=f"no plain NumPy version of {name}"):
        NumpyTrainer(model)


def test_a_model_that_is_not_compiled() -> None:
    with pytest.raises(RuntimeError, match="expected a model that is built and compiled"):
        NumpyTrainer(models.mlp((4,)))
