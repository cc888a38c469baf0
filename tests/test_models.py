"""Networks by name: shapes and parameter counts against the paper's and those worked by hand."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastconv import models

LENET5_PARAMETERS = {
    (1, 28, 28): 61_706,  # LeNet-5's own count: 156 + 2,416 + 48,120 + 10,164 + 850
    (1, 32, 32): 61_706,
    (3, 32, 32): 62_006,
    (1, 16, 16): 21_386,  # 16 x 2 x 2 numbers reach the first dense layer
    (1, 8, 8): 44_426,  # 16 x 4 x 4
    (1, 2, 2): 15_626,  # 16 x 1 x 1
}


def count(model: Any) -> int:
    return sum(parameter.value.size for parameter in model.parameters)


@pytest.mark.parametrize("shape", LENET5_PARAMETERS)
def test_lenet5_of_each_size(shape: tuple[int, int, int]) -> None:
    model = models.lenet5(shape)
    assert count(model) == LENET5_PARAMETERS[shape]
    assert model.predict(np.zeros((3, *shape), np.float32)).shape == (3, 10)


def test_lenet5_layer_by_layer() -> None:
    model = models.lenet5((1, 32, 32), activation="tanh", pooling="avg")
    shapes = [layer.output_shape for layer in model.layers]
    assert shapes == [
        (1, 32, 32),
        (6, 28, 28),
        (6, 14, 14),
        (16, 10, 10),
        (16, 5, 5),
        (400,),
        (120,),
        (84,),
        (10,),
    ]
    assert [sum(p.value.size for p in layer.parameters) for layer in model.layers] == [
        0, 156, 0, 2416, 0, 0, 48120, 10164, 850,
    ]  # fmt: skip
    assert [layer.activation for layer in model.layers if layer.parameters] == [
        *["tanh"] * 4, None,
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [(28, 28), (1, 1, 8), (8,), (1, 8, 8, 8)])
def test_lenet5_of_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"received {shape}")):
        models.lenet5(shape)


def test_lenet5_of_other_pooling() -> None:
    with pytest.raises(ValueError, match="""expected pooling to be "max" or "avg"; received 'l2'"""):
        models.lenet5(pooling="l2")


@pytest.mark.parametrize(
    ("shape", "classes", "hidden", "parameters"),
    [
        ((1, 28, 28), 10, (128, 64), 784 * 128 + 128 + 128 * 64 + 64 + 640 + 10),
        ((5,), 1, (6, 3), 61),
        ((4,), 3, (), 15),
    ],
)
def test_mlp(shape: tuple[int, ...], classes: int, hidden: tuple[int, ...], parameters: int) -> None:
    model = models.mlp(shape, classes, hidden=hidden)
    assert count(model) == parameters
    assert model.predict(np.zeros((2, *shape), np.float32)).shape == (2, classes)


@pytest.mark.parametrize("name", models.MODELS)
def test_seed_and_dtype(name: str) -> None:
    build = models.MODELS[name]
    weights = [build((1, 8, 8), 10, seed=seed).get_weights() for seed in (3, 3, 4)]
    for first, same, other in zip(*weights, strict=True):
        assert_array_equal(first, same)
        assert first.ndim == 1 or not np.array_equal(first, other)
    double = build((1, 8, 8), 10, seed=3, dtype="float64")
    assert {array.dtype for array in double.get_weights()} == {np.dtype(np.float64)}
