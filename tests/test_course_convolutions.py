"""The course, examples 10 to 17: convolution and pooling by hand, sizes, parameters and two famous networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv.layers import AvgPool2D, Conv2D, Dense, Flatten, Input, MaxPool2D
from fastconv.training import Sequential


def image(rows: Any) -> np.ndarray:
    return np.array(rows, np.float64)[np.newaxis, np.newaxis]


def test_a_convolution_by_hand() -> None:
    x = image([[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]])
    kernel = image([[1, 0, 1], [0, 1, 0], [1, 0, 1]])
    np.testing.assert_array_equal(fc.conv2d(x, kernel)[0, 0], [[4, 3, 4], [2, 4, 3], [2, 3, 4]])


EDGES = image(
    [
        [5, 3, 6, 8, 9, 1],
        [1, 6, 8, 3, 2, 1],
        [9, 9, 3, 2, 1, -1],
        [1, 1, 8, 4, 6, 5],
        [9, 3, 4, 0, 0, 1],
        [0, 1, 2, 3, 4, 3],
    ]
)


def test_edges_by_hand() -> None:
    vertical = image([[1, 0, -1]] * 3)
    expected = [[-2, 5, 5, 12], [-8, 7, 10, 4], [4, 7, 8, 1], [-4, -2, 4, -2]]
    np.testing.assert_array_equal(fc.conv2d(EDGES, vertical)[0, 0], expected)
    np.testing.assert_array_equal(fc.conv2d(EDGES, vertical.swapaxes(2, 3))[0, 0, 0], [-7, 3, 17, 16])


def test_sobel_filters_find_edges_in_a_photograph() -> None:
    """The roof of a temple against the sky has a strong edge, the sky has none."""
    pytest.importorskip("PIL", reason="Pillow is not installed")
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    photograph = image(datasets.load_sample_image("china.jpg").mean(axis=2) / 255)
    sobel = np.array([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
    across, down = fc.conv2d(photograph, np.stack([sobel, sobel.T])[:, np.newaxis])[0]
    strength = np.hypot(across, down)
    assert strength.shape == (425, 638)
    assert strength[:60, :200].mean() < 0.1 < 0.3 < strength[150:].mean()


def test_max_pooling_by_hand() -> None:
    x = image([[8, 4, 2, 1], [9, 3, 2, 8], [1, 5, 7, 1], [2, 0, 3, 7]])
    np.testing.assert_array_equal(fc.max_pool2d(x, 2, 2)[0, 0], [[9, 8], [5, 7]])
    np.testing.assert_array_equal(fc.avg_pool2d(x, 2, 2)[0, 0], [[6, 3.25], [2, 4.5]])


def count(model: Sequential) -> int:
    return sum(weight.size for weight in model.get_weights())


def test_sizes_by_hand() -> None:
    model = Sequential(
        [Input((1, 28, 28)), Conv2D(16, 5, padding=2), MaxPool2D(2), Conv2D(32, 5, padding=2), MaxPool2D(2)]
    )
    shapes = [layer.output_shape for layer in model.layers[1:]]
    assert shapes == [(16, 28, 28), (16, 14, 14), (32, 14, 14), (32, 7, 7)]
    assert Conv2D(1, 3, strides=4).compute_output_shape((1, 44, 44)) == (1, 11, 11)


@pytest.mark.parametrize(
    ("layers", "parameters"),
    [
        ([Input((3, 9, 9)), Conv2D(5, 3)], 140),
        ([Input((3, 9, 9)), Conv2D(10, 3)], 280),
        ([Input((3, 200, 100)), Conv2D(10, 3)], 280),
        ([Input(128), Dense(64)], 8256),
        ([Input(5), Dense(6), Dense(3), Dense(1)], 61),
    ],
)
def test_parameters_by_hand(layers: list[Any], parameters: int) -> None:
    assert count(Sequential(layers)) == parameters


def test_lenet_5() -> None:
    model = Sequential(
        [
            Input((1, 32, 32)),
            Conv2D(6, 5, activation="tanh"),
            AvgPool2D(2),
            Conv2D(16, 5, activation="tanh"),
            AvgPool2D(2),
            Conv2D(120, 5, activation="tanh"),
            Flatten(),
            Dense(84, activation="tanh"),
            Dense(10),
        ]
    )
    shapes = [layer.output_shape for layer in model.layers[1:]]
    assert shapes[:6] == [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120, 1, 1), (120,)]
    per_layer = [sum(p.value.size for p in layer.parameters) for layer in model.layers if layer.parameters]
    assert per_layer == [156, 2416, 48120, 10164, 850]
    assert count(model) == 61_706


def test_an_alexnet_for_small_images() -> None:
    model = Sequential(
        [
            Input((3, 32, 32)),
            Conv2D(96, 11, strides=4, padding="same", activation="relu"),
            MaxPool2D(2),
            Conv2D(256, 5, padding="same", activation="relu"),
            MaxPool2D(2),
            Conv2D(384, 3, padding="same", activation="relu"),
            Flatten(),
            Dense(84, activation="relu"),
            Dense(10),
        ]
    )
    shapes = [layer.output_shape for layer in model.layers[1:6]]
    assert shapes == [(96, 8, 8), (96, 4, 4), (256, 4, 4), (256, 2, 2), (384, 2, 2)]
    per_layer = [sum(p.value.size for p in layer.parameters) for layer in model.layers if layer.parameters]
    assert per_layer == [34_944, 614_656, 885_120, 129_108, 850]
    assert count(model) == 1_664_678


def test_the_summary_prints_the_table_of_lenet_5(capsys: pytest.CaptureFixture[str]) -> None:
    fc.models.lenet5((1, 32, 32), activation="tanh", pooling="avg").summary()
    table = capsys.readouterr().out
    for figure in ("(6, 28, 28)", "(16, 5, 5)", "156", "2,416", "48,120", "10,164", "850", "61,706"):
        assert figure in table


@pytest.mark.parametrize("place", [0, 3, 9])
def test_a_filter_finds_a_word_wherever_it_stands(place: int) -> None:
    """A text is an image of height 1 with a channel for each letter; the filter is the word."""
    letters = np.eye(26)
    text = ("." * place + "net").ljust(12, ".")
    embedding = np.array([letters[ord(c) - 97] if c.isalpha() else np.zeros(26) for c in text]).T
    word = np.array([letters[ord(c) - 97] for c in "net"]).T
    found = fc.conv2d(embedding[np.newaxis, :, np.newaxis], word[np.newaxis, :, np.newaxis])
    assert found.shape == (1, 1, 1, 10)
    assert found.max() == 3
    assert found.argmax() == place
