"""The course, examples 1 to 9: networks small enough to compute by hand, with the right numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv.layers import Dense, Input
from fastconv.losses import BinaryCrossentropy
from fastconv.optimizers import SGD, Adam
from fastconv.training import Sequential

ROUNDED = {"rtol": 0, "atol": 6e-9}
"""The numbers are given to eight places."""


def sigmoid_network(*weights: Any, rate: float) -> Sequential:
    """Two sigmoid layers with given kernels and biases, mean squared error, plain descent."""
    kernels = [np.array(weight) for weight in weights]
    model = Sequential(
        [
            Input(kernels[0].shape[1]),
            Dense(len(kernels[0]), activation="sigmoid"),
            Dense(len(kernels[2]), activation="sigmoid"),
        ],
        dtype="float64",
    )
    model.set_weights(kernels)
    model.compile(SGD(rate), "mse")
    return model


def layer_outputs(model: Sequential, x: Any) -> list[np.ndarray]:
    outputs = []
    y = np.array([x], dtype=np.float64)
    for layer in model.layers[1:]:
        y = layer(y)
        outputs.append(y[0])
    return outputs


def test_a_2_2_2_network_by_hand() -> None:
    model = sigmoid_network(
        [[0.15, 0.20], [0.25, 0.30]], [0.35, 0.35], [[0.40, 0.45], [0.50, 0.55]], [0.60, 0.60], rate=0.5
    )
    hidden, output = layer_outputs(model, [0.05, 0.10])
    np.testing.assert_allclose(hidden, [0.59326999, 0.59688438], **ROUNDED)
    np.testing.assert_allclose(output, [0.75136507, 0.77292847], **ROUNDED)
    loss = model.train_on_batch([[0.05, 0.10]], [[0.01, 0.99]])
    assert loss == pytest.approx(0.29837111, abs=6e-9)
    first, _, second, _ = (parameter.grad for parameter in model.parameters)
    np.testing.assert_allclose(second, [[0.08216704, 0.08266763], [-0.02260254, -0.02274024]], **ROUNDED)
    np.testing.assert_allclose(first, [[0.00043857, 0.00087714], [0.00049771, 0.00099543]], **ROUNDED)
    first, _, second, _ = model.get_weights()
    assert second[0, 0] == pytest.approx(0.35891648, abs=6e-9)
    assert first[0, 0] == pytest.approx(0.14978072, abs=6e-9)


def test_a_3_2_1_network_by_hand() -> None:
    model = sigmoid_network([[0.2, 0.4, -0.5], [-0.3, 0.1, 0.2]], [-0.4, 0.2], [[-0.3, -0.2]], [0.1], rate=0.9)
    hidden, output = layer_outputs(model, [1, 0, 1])
    np.testing.assert_allclose(hidden, [0.33181223, 0.52497919], **ROUNDED)
    np.testing.assert_allclose(output, [0.47388890], **ROUNDED)
    assert model.train_on_batch([[1, 0, 1]], [1]) == pytest.approx(0.27679289, abs=6e-9)
    kernel, bias, last, last_bias = model.get_weights()
    np.testing.assert_allclose(kernel, [[0.18429579, 0.4, -0.51570421], [-0.31177575, 0.1, 0.18822425]], **ROUNDED)
    np.testing.assert_allclose(bias, [-0.41570421, 0.18822425], **ROUNDED)
    np.testing.assert_allclose(last, [[-0.22165769, -0.07605014]], **ROUNDED)
    np.testing.assert_allclose(last_bias, [0.33610434], **ROUNDED)


def test_a_4_2_1_network_by_hand() -> None:
    model = sigmoid_network([[0.3, -0.2, 0.2, 0.1], [0.1, 0.4, -0.3, 0.4]], [0.2, 0.1], [[-0.3, 0.2]], [-0.3], rate=0.8)
    hidden, output = layer_outputs(model, [1, 1, 0, 1])
    np.testing.assert_allclose(hidden, [0.59868766, 0.73105858], **ROUNDED)
    np.testing.assert_allclose(output, [0.41741490], **ROUNDED)
    assert model.train_on_batch([[1, 1, 0, 1]], [1]) == pytest.approx(0.33940540, abs=6e-9)
    last, bias = model.get_weights()[2:]
    np.testing.assert_allclose(last, [[-0.16429152, 0.36571387]], **ROUNDED)
    np.testing.assert_allclose(bias, [-0.07332341], **ROUNDED)


def test_a_computation_graph() -> None:
    """J = 3 (a + b c), forward to 33 and back to the three derivatives."""
    a, b, c = (fc.graph.variable(value, name) for value, name in ((5, "a"), (3, "b"), (2, "c")))
    j = 3 * (a + b * c)
    j.backward()
    assert j.value == 33
    assert [node.grad for node in (a, b, c)] == [3, 6, 9]


def test_the_graph_of_a_network_has_the_gradients_of_its_layers() -> None:
    w1 = fc.graph.variable([[0.15, 0.20], [0.25, 0.30]], "w1")
    w2 = fc.graph.variable([[0.40, 0.45], [0.50, 0.55]], "w2")
    hidden = fc.graph.sigmoid(w1 @ [0.05, 0.10] + 0.35)
    error = fc.graph.mean((fc.graph.sigmoid(w2 @ hidden + 0.60) - [0.01, 0.99]) ** 2)
    error.backward()
    assert error.value == pytest.approx(0.29837111, abs=6e-9)
    np.testing.assert_allclose(w2.grad, [[0.08216704, 0.08266763], [-0.02260254, -0.02274024]], **ROUNDED)
    np.testing.assert_allclose(w1.grad, [[0.00043857, 0.00087714], [0.00049771, 0.00099543]], **ROUNDED)


CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
LOGIC = {"and": [0, 0, 0, 1], "or": [0, 1, 1, 1], "xor": [0, 1, 1, 0]}


def accuracy_on_logic(model: Sequential, table: str) -> float:
    model.compile(Adam(0.1), "binary_crossentropy", metrics=["accuracy"])
    model.fit(CORNERS, LOGIC[table], epochs=300, verbose=0)
    accuracy: float = model.evaluate(CORNERS, LOGIC[table], verbose=0)[1]
    return accuracy


@pytest.mark.parametrize(("table", "learnable"), [("and", True), ("or", True), ("xor", False)])
def test_a_perceptron_learns_and_and_or_but_not_xor(table: str, learnable: bool) -> None:
    accuracy = accuracy_on_logic(Sequential([Dense(1, input_shape=2)], seed=0), table)
    assert accuracy == 1 if learnable else accuracy <= 0.75


def test_a_hidden_layer_learns_xor() -> None:
    model = Sequential([Dense(8, activation="tanh", input_shape=2), Dense(1)], seed=0)
    assert accuracy_on_logic(model, "xor") == 1


def test_a_sigmoid_neuron_is_logistic_regression() -> None:
    """The gradient of the log loss in z is a - y, whichever way the loss reads the neuron."""
    z, y = np.array([[-2.0], [0.5], [3.0]]), np.array([[0.0], [1.0], [1.0]])
    a = 1 / (1 + np.exp(-z))
    _, of_logits = BinaryCrossentropy(from_logits=True).value_and_gradient(y, z)
    np.testing.assert_allclose(of_logits, (a - y) / 3, rtol=1e-14)
    _, of_probabilities = BinaryCrossentropy().value_and_gradient(y, a)
    np.testing.assert_allclose(of_probabilities * a * (1 - a), (a - y) / 3, rtol=1e-13)


def test_the_vectorised_two_layer_equations() -> None:
    """DZ2 = A2 - Y, dW2 = dZ2 A1^T / m, dZ1 = W2^T dZ2 * g'(Z1), columns being samples."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 3)), np.array([[0.0, 1, 1, 0, 1, 0]]).T
    model = Sequential([Dense(4, activation="tanh", input_shape=3), Dense(1)], seed=0, dtype="float64")
    model.compile(SGD(0.0), "binary_crossentropy")
    w1, b1, w2, b2 = model.get_weights()
    a1 = np.tanh(w1 @ x.T + b1[:, np.newaxis])
    a2 = 1 / (1 + np.exp(-(w2 @ a1 + b2[:, np.newaxis])))
    dz2 = a2 - y.T
    dz1 = w2.T @ dz2 * (1 - a1**2)
    model.train_on_batch(x, y)
    expected = [dz1 @ x / 6, dz1.sum(axis=1) / 6, dz2 @ a1.T / 6, dz2.sum(axis=1) / 6]
    for parameter, gradient in zip(model.parameters, expected, strict=True):
        np.testing.assert_allclose(parameter.grad, gradient, rtol=1e-12, atol=1e-15)


def test_y_equals_x_from_six_points() -> None:
    model = Sequential([Dense(units=1, input_shape=[1])], seed=0)
    model.compile(optimizer="sgd", loss="mean_squared_error")
    x = np.array([-1.0, 0.0, 1.0, 2.0, 3.0, 4.0])
    model.fit(x, x, epochs=500, verbose=0)
    assert model.predict([5.0]).item() == pytest.approx(5.0, abs=0.01)


@pytest.mark.parametrize("batch_size", [20, 1, 5], ids=["batch", "stochastic", "mini-batch"])
def test_gradient_descent_finds_the_least_squares_line(batch_size: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 20)
    y = 0.7 * x + 0.3 + 0.01 * rng.standard_normal(20)
    slope = (20 * (x * y).sum() - x.sum() * y.sum()) / (20 * (x * x).sum() - x.sum() ** 2)
    intercept = y.mean() - slope * x.mean()
    model = Sequential([Dense(1, input_shape=1)], seed=0, dtype="float64")
    model.compile(SGD(0.05), "mse")
    model.fit(x, y, batch_size=batch_size, epochs=300, verbose=0)
    model.optimizer.learning_rate = 0.002
    model.fit(x, y, batch_size=batch_size, epochs=300, verbose=0)
    kernel, bias = model.get_weights()
    assert kernel.item() == pytest.approx(slope, abs=1e-3)
    assert bias.item() == pytest.approx(intercept, abs=1e-3)


def test_depth_without_nonlinearity_is_one_linear_layer() -> None:
    x = np.random.default_rng(0).standard_normal((5, 3))
    deep = Sequential([Dense(7, input_shape=3), Dense(2)], seed=0, dtype="float64")
    w1, b1, w2, b2 = deep.get_weights()
    flat = Sequential([Dense(2, input_shape=3)], dtype="float64")
    flat.set_weights([w2 @ w1, w2 @ b1 + b2])
    np.testing.assert_allclose(deep.predict(x), flat.predict(x), rtol=1e-12, atol=1e-14)


def gradient_ratio(activation: str, initializer: str) -> float:
    """Size of the first layer's gradient against the last's, in a network of ten layers."""
    hidden = [Dense(32, activation=activation, kernel_initializer=initializer) for _ in range(10)]
    model = Sequential([Input(32), *hidden, Dense(1)], seed=0, dtype="float64")
    model.compile("sgd", "mse")
    model.train_on_batch(np.random.default_rng(1).standard_normal((64, 32)), np.ones(64))
    kernels = [parameter.grad for parameter in model.parameters if parameter.name == "kernel"]
    return float(np.abs(kernels[0]).mean() / np.abs(kernels[-2]).mean())


def test_ten_sigmoid_layers_lose_the_gradient_and_relu_with_he_does_not() -> None:
    assert gradient_ratio("sigmoid", "glorot_uniform") < 1e-4
    assert 0.1 < gradient_ratio("relu", "he_normal") < 10


def test_zero_initialised_hidden_units_stay_identical() -> None:
    layers = [Dense(4, activation="sigmoid", kernel_initializer="zeros"), Dense(1, kernel_initializer="zeros")]
    model = Sequential(layers, seed=0)
    model.compile(SGD(0.5), "mse")
    model.fit(CORNERS, LOGIC["or"], epochs=50, verbose=0)
    kernel = model.get_weights()[0]
    assert np.abs(kernel).max() > 0
    np.testing.assert_array_equal(kernel, np.broadcast_to(kernel[0], kernel.shape))


def errors_of_steep_descent(**clipping: float) -> list[float]:
    """Errors of a line fitted to large numbers at a rate far too high for them."""
    x = np.linspace(10, 20, 11)
    model = Sequential([Dense(1, input_shape=1)], seed=0, dtype="float64")
    model.compile(SGD(0.1, **clipping), "mse")
    return [model.train_on_batch(x, 2 * x + 1) for _ in range(200)]


def test_an_exploding_gradient_ends_in_no_number() -> None:
    with pytest.raises(FloatingPointError, match="loss"):
        errors_of_steep_descent()


@pytest.mark.parametrize("clipping", [{"clipvalue": 1.0}, {"clipnorm": 1.0}, {"global_clipnorm": 1.0}])
def test_clipping_keeps_the_loss_finite(clipping: dict[str, float]) -> None:
    losses = errors_of_steep_descent(**clipping)
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.05 * losses[0]


def test_clipping_by_value_and_by_norm() -> None:
    """By value bends the gradient (3, 4), by norm shortens it."""
    for option, step in (({"clipvalue": 1.0}, [1.0, 1.0]), ({"global_clipnorm": 1.0}, [0.6, 0.8])):
        p = np.zeros(2)
        SGD(1.0, **option).apply(p, np.array([3.0, 4.0]))
        np.testing.assert_allclose(-p, step, rtol=1e-15)
