"""A large batch in chunks of images: as good as the batch at once, and less memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from checks import assert_same_bits

import fastconv as fc
from fastconv._call import Arena
from fastconv.layers import Layer, Stack, chain, chunks, fused

pytestmark = pytest.mark.usefixtures("_one_thread")


def images(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


FOUR = 4 * 4 * 2560
"""Bytes before and after the first maximum of four images."""


def trunk() -> list[Layer]:
    """Return layers that go by images, with 2560 numbers before and after the first maximum."""
    return [
        fc.Conv2D(8, 3, padding="same", activation="relu"),
        fc.MaxPool2D(2),
        fc.Conv2D(4, 3, activation="tanh"),
        fc.Conv2D(4, 3, activation="sigmoid"),
        fc.MaxPool2D(2, 1),
        fc.LeakyReLU(),
        fc.Flatten(),
    ]


def built(layers: list[Layer], *, seed: int = 0) -> Stack:
    stack = Stack(layers)
    stack.build((1, 16, 16), np.random.default_rng(seed))
    return stack


@pytest.fixture
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CACHE", FOUR)


class Mine(fc.Conv2D):
    """May do anything."""


class Whole(Layer):
    """Looks at the whole batch."""

    def forward(self, x: np.ndarray, training: bool = False) -> tuple[np.ndarray, Any]:
        return x - x.mean(axis=0), lambda grad_y, input_grad=True: grad_y - grad_y.mean(axis=0)


@pytest.mark.usefixtures("small_cache")
@pytest.mark.parametrize(
    ("layers", "batch", "expected"),
    [
        (trunk(), 4, (0, [])),
        (trunk(), 5, (7, [3, 2])),
        (trunk(), 8, (7, [4, 4])),
        (trunk(), 17, (7, [4, 4, 4, 4, 1])),
        ([*trunk(), fc.Dense(3), fc.ReLU()], 8, (7, [4, 4])),
        ([fc.Sequential(trunk()), fc.Dense(3)], 8, (1, [4, 4])),
        ([fc.Sequential([*trunk(), fc.Dense(3)]), fc.ReLU()], 8, (0, [])),
        ([fc.ReLU(), Mine(2, 3)], 40, (1, [20, 20])),
        ([Mine(2, 3), fc.ReLU()], 512, (0, [])),
        ([fc.ReLU(), Whole(), fc.ReLU()], 40, (1, [20, 20])),
        ([], 512, (0, [])),
    ],
)
def test_cut(layers: list[Layer], batch: int, expected: tuple[int, list[int]]) -> None:
    stack = built(layers)
    count, slices = chunks.cut(stack.layers, images(0, batch, 1, 16, 16))
    assert (count, [part.stop - part.start for part in slices]) == expected
    assert [part.start for part in slices] == [0, *(part.stop for part in slices)][: len(slices)]


def test_what_has_no_shape_is_left_to_the_layers() -> None:
    assert chunks.cut(trunk(), images(0, 512, 1, 16, 16)) == (0, [])  # not built
    for wrong in ([[1.0]], np.float32(1), np.zeros(())):
        assert chunks.cut(built(trunk()).layers, wrong) == (0, [])
    with pytest.raises(TypeError, match="NumPy array"):
        built(trunk())([[1.0]])


@pytest.mark.usefixtures("small_cache")
@pytest.mark.parametrize("head", [[], [fc.Dense(3, activation="softmax")], [Whole()]], ids=str)
def test_inference_has_the_bits_of_each_chunk(head: list[Layer]) -> None:
    stack = built(trunk())
    x = images(1, 10, 1, 16, 16)
    parts = [chain._infer(stack.layers, x[part]) for part in (slice(0, 4), slice(4, 8), slice(8, 10))]
    whole = Stack([*stack.layers, *head])
    whole.build((1, 16, 16))
    expected = chain._infer(whole.layers[7:], np.concatenate(parts))
    for _ in range(2):
        assert_same_bits((whole(x),), (expected,))
        with Arena():
            assert_same_bits((whole(x),), (expected,))


def gradients(stack: Stack, x: np.ndarray, *, input_grad: bool) -> list[np.ndarray]:
    y, backward = stack.forward(x, True)
    grad_x = backward(images(2, *y.shape), input_grad)
    return [y.copy(), *([grad_x.copy()] if input_grad else []), *(p.grad.copy() for p in stack.parameters)]


HEADS = {
    "none": [],
    "dense": [fc.Dense(5, activation="tanh"), fc.Dense(3)],
    "custom": [Whole(), fc.Dense(3)],
    "nested": [fc.Sequential([fc.Dense(4), fc.ReLU()])],
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("input_grad", [False, True])
@pytest.mark.parametrize("batch", [7, 16])
def test_training_in_chunks(head: str, input_grad: bool, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradients of the batch at once, but for the rounding of the sums; outputs alike."""
    stack = built([*trunk(), *HEADS[head]])
    x = images(3, batch, 1, 16, 16)
    whole = gradients(stack, x, input_grad=input_grad)
    monkeypatch.setattr(chunks, "CACHE", FOUR)
    assert len(chunks.cut(stack.layers, x)[1]) > 1
    found = gradients(stack, x, input_grad=input_grad)
    for a, b in zip(found, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())
    arena = Arena()
    for _ in range(3):  # memory changes nothing
        with arena:
            assert_same_bits(tuple(gradients(stack, x, input_grad=input_grad)), tuple(found))


@pytest.mark.usefixtures("small_cache")
def test_frozen_layers_are_left_out() -> None:
    stack = built([*trunk(), fc.Dense(3)])
    x = images(3, 9, 1, 16, 16)
    every = gradients(stack, x, input_grad=False)
    stack.layers[0].trainable = False
    for parameter in stack.parameters:
        parameter.grad[...] = 7
    some = gradients(stack, x, input_grad=False)
    assert (some[1] == 7).all()
    assert (some[2] == 7).all()
    assert_same_bits(tuple(some[3:]), tuple(every[3:]))
    for layer in stack.layers[:-1]:
        layer.trainable = False
    assert_same_bits(tuple(gradients(stack, x, input_grad=False)[-2:]), tuple(every[-2:]))


@pytest.mark.usefixtures("small_cache")
def test_dropout_draws_as_before_whatever_the_threads() -> None:
    results = []
    for threads in (1, 2):
        model = fc.Sequential([fc.Input((1, 16, 16)), *trunk(), fc.Dropout(0.5), fc.Dense(3)], seed=0)
        model.compile("sgd", "mse")
        with fc.num_threads(threads):
            model.fit(images(4, 40, 1, 16, 16), images(5, 40, 3), batch_size=20, epochs=2, verbose=0)
        results.append(tuple(model.get_weights()))
    assert_same_bits(*results)


@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu", "sigmoid", "tanh"])
def test_a_convolution_and_the_maximum_after_it(activation: str) -> None:
    """Output and gradients of the two layers one by one."""
    stack = built([fc.Conv2D(4, 3, activation=activation), fc.MaxPool2D(2)])
    (pair,) = fused.steps(stack.layers)
    assert isinstance(pair, fused.PooledConvolution)
    x, grad = images(0, 3, 1, 16, 16), images(1, 3, 4, 7, 7)
    results = []
    for step, training in ((pair, True), (stack, False)):
        y, backward = step.forward(x, training)
        results.append((y, backward(grad), *(p.grad.copy() for p in stack.parameters)))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "layers",
    [
        [fc.Conv2D(4, 3, activation="softmax"), fc.MaxPool2D(2)],
        [fc.Conv2D(4, 3), fc.MaxPool2D(3, 2)],
        [fc.Conv2D(4, 3), fc.MaxPool2D(2, 1)],
        [fc.Conv2D(4, 3), fc.MaxPool2D(2, padding="same")],
        [Mine(4, 3), fc.MaxPool2D(2)],
        [fc.MaxPool2D(2), fc.MaxPool2D(2)],
    ],
)
def test_other_pairs_stay_two(layers: list[Layer]) -> None:
    assert fused.steps(layers) == layers


def test_memory_of_a_large_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step keeps what backward needs, and of everything else a chunk's worth."""
    monkeypatch.setattr(chunks, "CACHE", 2**21)
    layers = [
        fc.Input((8, 32, 32)),
        fc.Conv2D(32, 3, padding="same", activation="relu"),
        fc.MaxPool2D(2),
        fc.Conv2D(32, 3, padding="same", activation="relu"),
        fc.GlobalAvgPool2D(),
        fc.Dense(2),
    ]
    model = fc.Sequential(layers, seed=0)
    model.compile("sgd", "mse")
    batch = 64
    x, y = images(0, batch, 8, 32, 32), images(1, batch, 2)
    model.train_on_batch(x, y)
    assert model.compiled is not None
    kept = batch * 2 * 32 * 16 * 16 * 4 * 1.25  # the maximum with its taps, the second convolution
    assert model.compiled.arena.size < kept + 4 * chunks.CACHE
    model(x)
    assert model._replays._arenas[0].size < 3 * chunks.CACHE
