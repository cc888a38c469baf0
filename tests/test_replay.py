"""Passes from a recording: the same bits as layer by layer, for as long as nothing they rest on has changed."""

from __future__ import annotations

import copy
import pickle
import weakref
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


@pytest.mark.parametrize(("size", "expected"), [(8, 1), (600, 2)])
def test_small_passes_stay_on_one_thread(size: int, expected: int) -> None:
    model = fc.Sequential([fc.Input((1, size, size)), fc.Conv2D(4, 5), fc.GlobalAvgPool2D()], seed=0)
    model.compile("sgd", "mse")
    with fc.num_threads(2):
        model(images(0, 1, 1, size, size))
        model.train_on_batch(images(0, 1, 1, size, size), images(1, 1, 4))
    assert model.compiled is not None
    (kept,) = model.compiled._passes.values()
    calls = [*kept._forward, *kept._backward]
    for recorded in model._replays._kept.values():
        calls += recorded._calls or []
    assert {arguments[-1] for _, arguments in calls} == {expected}


# --- training ------------------------------------------------------------------------------------


def compiled(*more: layers.Layer, optimizer: str = "adam") -> fc.Sequential:
    model = small(*more)
    model.compile(optimizer, "mse", metrics=["accuracy"])
    return model


def targets(model: fc.Sequential, count: int) -> np.ndarray:
    return images(99, count, *(model.output_shape or ()))


def step_by_layers(model: fc.Sequential, x: np.ndarray, y: np.ndarray) -> float:
    """Make a step as `train_on_batch` does, without any recording."""
    settled = model.compiled
    assert settled is not None
    flat = settled.flat if settled.flat.current else settled.lay_out(model.parameters, model.dtype)
    prediction, backward = model.forward(x, True)
    loss, gradient = settled.loss.compute(y, prediction, None)
    backward(gradient, False)
    settled.optimizer.update(flat.trained_values, flat.trained_gradients)
    return loss


def is_training_recorded(model: fc.Sequential) -> bool:
    assert model.compiled is not None
    return any(kept._backward is not None for kept in model.compiled._passes.values())


def assert_trains(model: fc.Sequential, other: fc.Sequential, recorded: bool = True) -> None:
    """Hold four steps, the later ones from recordings if there are some, to steps layer by layer."""
    for seed, count in enumerate((4, 4, 3, 4, 3)):
        x, y = images(seed, count, 2, 8, 8), targets(model, count)
        assert model.train_on_batch(x, y)[0] == pytest.approx(step_by_layers(other, x, y), rel=1e-12)
        assert is_training_recorded(model) == recorded
    assert_same_bits(tuple(model.get_weights()), tuple(other.get_weights()))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_steps_from_a_recording(optimizer: str) -> None:
    assert_trains(compiled(optimizer=optimizer), compiled(optimizer=optimizer))


def test_steps_in_chunks_from_a_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers.chunks, "CACHE", 2048)
    assert_trains(compiled(), compiled())


def freeze(model: fc.Sequential) -> None:
    model.layers[1].trainable = not model.layers[1].trainable
    model.compile("sgd", "mse", metrics=["accuracy"])


def compile_again(model: fc.Sequential) -> None:
    model.compile("sgd", "mse", metrics=["accuracy"])


def add_layer(model: fc.Sequential) -> None:
    model.add(fc.Dense(5, kernel_initializer="zeros"))
    compile_again(model)


def lend(model: fc.Sequential) -> None:
    """Let another model train the layers in between."""
    outer = fc.Sequential([model, fc.Dense(2)], seed=3)
    outer.compile("sgd", "mse")
    outer.train_on_batch(images(8, 4, 2, 8, 8), images(9, 4, 2))


@pytest.mark.parametrize(
    "change",
    [change_weights, write_in_place, set_activation, freeze, compile_again, add_layer, lend, lambda _: _call.forget()],
)
def test_training_sees_changes(change: Any) -> None:
    model, other = compiled(), compiled()
    for _ in range(2):
        assert_trains(model, other)
        change(model)
        change(other)
    assert_trains(model, other)


@pytest.mark.parametrize("layer", [layers.Dropout(0.5), Restless()])
def test_random_and_other_layers_train_unrecorded(layer: layers.Layer) -> None:
    model = compiled()
    model.layers.insert(1, layer)
    model.build((2, 8, 8))
    weights = model.get_weights()
    for seed in range(3):
        if not isinstance(layer, Restless):
            model.train_on_batch(images(seed, 4, 2, 8, 8), targets(model, 4))
        assert not is_training_recorded(model)
    assert all(map(np.array_equal, weights, model.get_weights())) == isinstance(layer, Restless)


def test_evaluation_between_steps_changes_nothing() -> None:
    model, other = compiled(), compiled()
    x, y = images(0, 12, 2, 8, 8), targets(model, 12)
    for epochs in (2, 3):
        model.fit(
            x,
            y,
            batch_size=5,
            epochs=epochs,
            shuffle=False,
            verbose=0,
            validation_data=(images(1, 40, 2, 8, 8), targets(model, 40)),
        )
        model(images(2, 300, 2, 8, 8))
        for _ in range(epochs):
            for start in (0, 5, 10):
                step_by_layers(other, x[start : start + 5], y[start : start + 5])
    assert_same_bits(tuple(model.get_weights()), tuple(other.get_weights()))


def test_a_step_that_fails_leaves_no_half_recording() -> None:
    model, other = compiled(), compiled()
    with pytest.raises(FloatingPointError):
        model.train_on_batch(np.full((4, 2, 8, 8), np.nan, np.float32), targets(model, 4))
    assert not is_training_recorded(model)
    assert_trains(model, other)
    with pytest.raises(FloatingPointError):
        model.train_on_batch(np.full((4, 2, 8, 8), np.nan, np.float32), targets(model, 4))
    assert_trains(model, other)


def test_a_model_that_nobody_holds_is_gone_at_once() -> None:
    model = compiled()
    for _ in range(2):
        model.train_on_batch(images(0, 4, 2, 8, 8), targets(model, 4))
        model(images(0, 1, 2, 8, 8))
    gone = weakref.ref(model)
    del model
    assert gone() is None


def test_passes_of_training_are_bounded() -> None:
    model = compiled()
    for count in range(1, 3 * replay.KEPT):
        model.train_on_batch(images(0, count, 2, 8, 8), targets(model, count))
    assert model.compiled is not None
    assert len(model.compiled._passes) <= replay.KEPT
