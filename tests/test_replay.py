"""Inference from a recording: the same bits as layer by layer, for as long as nothing it rests on has changed."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from checks import assert_same_bits

import fastconv as fc
from fastconv import _call, layers
from fastconv.layers import replay

pytestmark = pytest.mark.usefixtures("_one_thread")


def images(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def small(*more: layers.Layer) -> fc.Sequential:
    return fc.Sequential(
        [fc.Input((2, 8, 8)), fc.Conv2D(4, 3, activation="relu"), fc.MaxPool2D(2), fc.Flatten(), fc.Dense(5), *more],
        seed=0,
    )


def is_recorded(model: Any) -> bool:
    return any(kept._calls is not None for kept in model._replays._kept.values())


def assert_computes(model: Any, *shape: int) -> None:
    """Hold three calls, the later ones from a recording if there is one, to the layers one by one."""
    for seed in range(3):
        x = images(seed, *shape)
        assert_same_bits((model(x),), (model.infer(x),))


LAYERS = [
    layers.Activation("tanh"),
    layers.Activation("linear"),
    layers.AvgPool2D(2, padding="same"),
    layers.Conv2D(3, 3, padding="same", activation="sigmoid"),
    layers.Conv2D(4, (2, 3), strides=2, groups=2, use_bias=False),
    layers.Conv2D(3, 1, activation="softmax"),
    layers.Dropout(0.5),
    layers.Flatten(),
    layers.GlobalAvgPool2D(),
    layers.Input((2, 8, 8)),
    layers.LeakyReLU(0.2),
    layers.MaxPool2D(3, 1),
    layers.ReLU(),
    layers.Softmax(),
    layers.Stack([layers.ReLU(), layers.Conv2D(2, 3)]),
    fc.Sequential([layers.Flatten(), layers.Dense(3, activation="softmax")]),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_every_layer_replays_as_it_computes(layer: layers.Layer) -> None:
    model = fc.Sequential([layer], seed=0)
    model.build((2, 8, 8))
    assert_computes(model, 3, 2, 8, 8)
    # A softmax over channels copies them to rows and back, which is no kernel.
    channels = layer.activation == "softmax" and model.output_shape != (3,)
    assert is_recorded(model) != channels


def test_table_has_every_layer() -> None:
    exported = {getattr(layers, name) for name in layers.__all__} - {layers.Layer, layers.Parameter, layers.Dense}
    assert exported <= {type(layer) for layer in LAYERS}
    assert all(vars(layer).get("only_kernels") for layer in exported)


def test_results_are_the_callers() -> None:
    """Each result is an array of its own, and the input is only read."""
    model, x = small(), images(0, 1, 2, 8, 8)
    first = model(x)
    kept = first.copy()
    second = model(images(1, 1, 2, 8, 8))
    assert_same_bits((first,), (kept,))
    assert not np.shares_memory(first, second)
    assert_same_bits((x,), (images(0, 1, 2, 8, 8),))


def change_weights(model: fc.Sequential) -> None:
    model.set_weights([2 * weight for weight in model.get_weights()])


def replace_value(model: fc.Sequential) -> None:
    model.layers[1].kernel.value = images(5, 4, 2, 3, 3)


def train(model: fc.Sequential) -> None:
    model.compile("sgd", "mse")
    model.train_on_batch(images(6, 4, 2, 8, 8), images(7, 4, 5))


def write_in_place(model: fc.Sequential) -> None:
    model.layers[4].kernel.value[...] *= 3


def set_activation(model: fc.Sequential) -> None:
    model.layers[1].activation = "tanh"


CHANGES = [
    change_weights,
    replace_value,
    train,
    write_in_place,
    set_activation,
    lambda model: _call.forget(),
    lambda model: model.add(fc.Dense(3)),
    lambda model: model.layers.append(layers.ReLU()),
    lambda model: model.layers.pop(),
]


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_seen(change: Any) -> None:
    model = small()
    for _ in range(3):
        assert_computes(model, 1, 2, 8, 8)
        assert is_recorded(model)
        change(model)


def test_value_that_kernels_read_from_a_copy() -> None:
    model = small()
    kernel = model.layers[4].kernel
    kernel.value = np.asfortranarray(kernel.value)
    assert_computes(model, 1, 2, 8, 8)
    assert not is_recorded(model)
    write_in_place(model)
    assert_computes(model, 1, 2, 8, 8)


def test_change_in_a_nested_stack_is_seen() -> None:
    inner = layers.Stack([layers.ReLU()])
    model = small(inner)
    assert_computes(model, 1, 2, 8, 8)
    assert is_recorded(model)
    inner.layers.append(layers.Activation("tanh"))
    assert_computes(model, 1, 2, 8, 8)


class Twice(layers.Layer):
    def forward(self, x: np.ndarray, training: bool = False) -> Any:
        return 2 * x, None


class Restless(layers.ReLU):
    """Derived from a layer that may be recorded, but it may not."""

    def forward(self, x: np.ndarray, training: bool = False) -> Any:
        return (x if x.sum() > 0 else -x), None


@pytest.mark.parametrize("layer", [Twice(), Restless()])
def test_other_layers_are_not_recorded(layer: layers.Layer) -> None:
    for model in (small(layer), small(layers.Stack([layer]))):
        assert_computes(model, 1, 2, 8, 8)
        assert not is_recorded(model)


def test_large_inputs_are_not_recorded() -> None:
    model = small()
    assert_computes(model, 2000, 2, 8, 8)
    assert not is_recorded(model)
    assert_computes(model, 1, 2, 8, 8)
    assert is_recorded(model)


def test_every_layout_of_an_input() -> None:
    model, x = small(), images(0, 2, 2, 8, 8)
    expected = model.infer(x)
    for laid in (np.asfortranarray(x), x[::-1].copy()[::-1], x.astype(x.dtype.newbyteorder()), x.view(np.memmap)):
        assert_same_bits((model(laid),), (expected,))
        assert_same_bits((model(laid),), (expected,))
    with pytest.raises(TypeError, match="dtype"):
        model(x.astype(np.float64))
    with pytest.raises(ValueError, match="input channels"):
        model(images(0, 2, 3, 8, 8))


def test_threads_share_a_model() -> None:
    model = small()
    inputs = [images(seed, 1, 2, 8, 8) for seed in range(64)]
    expected = [model.infer(x) for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        assert_same_bits(tuple(pool.map(model, inputs)), tuple(expected))


def test_copies_record_for_themselves() -> None:
    model, x = small(), images(0, 1, 2, 8, 8)
    model(x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert not is_recorded(other)
        change_weights(other)
        assert_computes(other, 1, 2, 8, 8)
    assert_computes(model, 1, 2, 8, 8)


def test_recordings_are_bounded() -> None:
    model = small()
    for count in range(1, 3 * replay.KEPT):
        model(images(0, count, 2, 8, 8))
    assert len(model._replays._kept) <= replay.KEPT


def test_forgetting_plans_forgets_recordings() -> None:
    model, x = small(), images(0, 1, 2, 8, 8)
    model(x)
    (before,) = model._replays._kept.values()
    model(x)
    assert [*model._replays._kept.values()] == [before]
    _call.forget()
    assert not before.is_current()
    model(x)
    assert [*model._replays._kept.values()] != [before]


def test_num_threads_holds() -> None:
    model, x = small(), images(0, 1, 2, 8, 8)
    model(x)
    with fc.num_threads(2):
        model(x)
    assert {key[1] for key in model._replays._kept} == {1, 2}
