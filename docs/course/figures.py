"""Draw the pictures of the course: ``python docs/course/figures.py [NAME ...]`` writes them into images/.

Each function draws one, and is named as its file without the number. It needs Matplotlib, scikit-learn and Pillow,
``pip install "fastconv[course]"``.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

import fastconv as fc

IMAGES = Path(__file__).parent / "images"
CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"]
"""Told apart with every kind of sight (Okabe and Ito, 2008)."""


def panels(count: int, width: float = 3.0, height: float = 2.6, **options: Any) -> tuple[Any, list[Any]]:
    """Return a figure and its axes, side by side."""
    figure, axes = plt.subplots(1, count, figsize=(width * count, height), layout="constrained", **options)
    return figure, list(np.atleast_1d(axes))


def graph() -> Any:
    """Draw the computation graph of J = 3 (a + b c)."""
    a, b, c = (fc.graph.variable(value, name) for value, name in ((5, "a"), (3, "b"), (2, "c")))
    end = 3 * (a + b * c)
    end.backward()
    return fc.graph.picture(end)


def xor() -> Any:
    """Draw where a perceptron and a network say yes."""
    figure, axes = panels(3)
    side = np.linspace(-0.5, 1.5, 161)
    plane = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    perceptron, network = [fc.Dense(1)], [fc.Dense(8, activation="tanh"), fc.Dense(1)]
    for axis, title, hidden, table in (
        (axes[0], "AND, perceptron", perceptron, [0, 0, 0, 1]),
        (axes[1], "XOR, perceptron", [fc.Dense(1)], [0, 1, 1, 0]),
        (axes[2], "XOR, one hidden layer", network, [0, 1, 1, 0]),
    ):
        model = fc.Sequential([fc.Input(2), *hidden], seed=0)
        model.compile(fc.optimizers.Adam(0.1), "binary_crossentropy")
        model.fit(CORNERS, table, epochs=300, verbose=0)
        yes = fc.sigmoid(model.predict(plane)).reshape(161, 161)
        axis.contourf(side, side, yes, levels=np.linspace(0, 1, 11), cmap="RdBu_r", alpha=0.6)
        if yes.min() < 0.5 < yes.max():
            axis.contour(side, side, yes, levels=[0.5], colors="black", linewidths=1)
        for value, marker, name in ((0, "o", "no"), (1, "s", "yes")):
            chosen = CORNERS[np.array(table) == value]
            axis.scatter(
                *chosen.T, marker=marker, c=["#2166ac", "#b2182b"][value], edgecolors="white", s=70, label=name
            )
        axis.set(title=title, xticks=[0, 1], yticks=[0, 1], aspect="equal")
    axes[0].legend(loc="upper left", fontsize=8)
    return figure


def descent() -> Any:
    """Draw the mean squared error over slope and intercept, and two ways down."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 20)
    y = 0.7 * x + 0.3 + 0.3 * rng.standard_normal(20)
    figure, axes = panels(2, 3.6, 3, sharey=True)
    b1, b0 = np.meshgrid(np.linspace(-1.3, 2, 80), np.linspace(-1.2, 1.4, 80))
    error = ((b1[..., np.newaxis] * x + b0[..., np.newaxis] - y) ** 2).mean(axis=2)
    for axis, title, batch_size in ((axes[0], "batch", 20), (axes[1], "stochastic", 1)):
        model = fc.Sequential([fc.Dense(1, input_shape=1)], seed=0, dtype="float64")
        model.set_weights([np.array([[-1.0]]), np.array([-0.8])])
        model.compile(fc.optimizers.SGD(0.1), "mse")
        path = [(-1.0, -0.8)]
        for step in range(60):
            chosen = slice(None) if batch_size == 20 else [step % 20]
            model.train_on_batch(x[chosen], y[chosen])
            path.append(tuple(weight.item() for weight in model.get_weights()))
        axis.contour(b1, b0, error, levels=np.geomspace(0.08, 5, 14), cmap="viridis", linewidths=0.8)
        axis.plot(*np.array(path).T, ".-", color=COLOURS[1], markersize=4, linewidth=1)
        axis.set(title=title, xlabel="slope")
    axes[0].set_ylabel("intercept")
    return figure


def vanishing() -> Any:
    """Draw the size of the gradient in each of ten layers."""
    figure, (axis,) = panels(1, 5, 3)
    for number, (name, activation, initializer) in enumerate(
        (
            ("sigmoid, Xavier", "sigmoid", "xavier_uniform"),
            ("tanh, Xavier", "tanh", "xavier_uniform"),
            ("ReLU, He", "relu", "he_normal"),
        )
    ):
        hidden = [fc.Dense(32, activation=activation, kernel_initializer=initializer) for _ in range(10)]
        model = fc.Sequential([fc.Input(32), *hidden, fc.Dense(1)], seed=0, dtype="float64")
        model.compile("sgd", "mse")
        model.train_on_batch(np.random.default_rng(1).standard_normal((64, 32)), np.ones(64))
        sizes = [np.abs(p.grad).mean() for p in model.parameters if p.name == "kernel"][:10]
        axis.semilogy(range(1, 11), sizes, "os^"[number] + "-", color=COLOURS[number], label=name)
    axis.set(xlabel="layer", ylabel="mean |gradient| of its weights", xticks=range(1, 11))
    axis.legend(fontsize=8)
    return figure


def photograph() -> np.ndarray:
    """Return a real photograph in grey, from 0 to 1."""
    grey: np.ndarray = load_sample_image("china.jpg").mean(axis=2) / 255
    return grey


def edges() -> Any:
    """Draw a photograph and its edges."""
    grey = photograph()
    sobel = np.array([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
    across, down = fc.conv2d(grey[np.newaxis, np.newaxis], np.stack([sobel, sobel.T])[:, np.newaxis])[0]
    figure, axes = plt.subplots(2, 2, figsize=(6, 4.2), layout="constrained")
    for axis, title, image in zip(
        axes.flat,
        ("photograph", "vertical edges", "horizontal edges", "strength"),
        (grey, np.abs(across), np.abs(down), np.hypot(across, down)),
        strict=True,
    ):
        axis.imshow(image[::3, ::3], cmap="gray", vmax=None if image is grey else 2)
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    return figure


def filters() -> Any:
    """Draw what the first layer learned from digits, and what it makes of one."""
    (x, y), _ = fc.data.load_digits()
    model = fc.Sequential(
        [fc.Conv2D(6, 5, padding="same", activation="relu"), fc.MaxPool2D(2), fc.Flatten(), fc.Dense(10)], seed=0
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=20, verbose=0)
    digit = x[y == 3][:1]
    maps = model.layers[0](digit)[0]
    figure, axes = plt.subplots(2, 7, figsize=(7, 2.3), layout="constrained")
    axes[0, 0].axis("off")
    axes[1, 0].imshow(digit[0, 0], cmap="gray")
    axes[1, 0].set_title("input", fontsize=8)
    kernels = model.get_weights()[0]
    for number in range(6):
        axes[0, number + 1].imshow(kernels[number, 0], cmap="RdBu_r", vmin=-0.8, vmax=0.8)
        axes[0, number + 1].set_title(f"filter {number + 1}", fontsize=8)
        axes[1, number + 1].imshow(maps[number], cmap="gray")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure


def activations() -> Any:
    """Draw activations and their derivatives."""
    x = np.linspace(-4, 4, 401)[np.newaxis]
    figure, axes = panels(5, 1.9, 2.1, sharex=True)
    layers = (fc.Activation(name) for name in ("linear", "sigmoid", "tanh", "relu"))
    titles = ("linear", "sigmoid", "tanh", "ReLU", "leaky ReLU, slope 0.1")
    for axis, title, layer in zip(axes, titles, (*layers, fc.LeakyReLU(0.1)), strict=True):
        y, backward = layer.forward(x)
        axis.plot(x[0], y[0], color=COLOURS[0])
        axis.plot(x[0], backward(np.ones_like(x))[0], "--", color=COLOURS[1])
        axis.set_title(title, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    axes[0].legend(["value", "derivative"], fontsize=7)
    return figure


def losses() -> Any:
    """Draw losses of a difference, of a margin and of a probability."""
    figure, axes = panels(3, 3.1, 2.7)
    d, margin, p = np.linspace(-3, 3, 301), np.linspace(-2, 3, 301), np.linspace(0.01, 1, 300)
    kinds = fc.losses
    rows = (
        (
            axes[0],
            "prediction - target",
            d,
            0.0,
            {
                "squared": kinds.MeanSquaredError("none"),
                "absolute": kinds.MeanAbsoluteError("none"),
                "Huber": kinds.Huber(reduction="none"),
                "log-cosh": kinds.LogCosh("none"),
                "quantile 0.9": kinds.Quantile(0.9, "none"),
            },
        ),
        (
            axes[1],
            "margin t y",
            margin,
            1.0,
            {
                "hinge": kinds.Hinge("none"),
                "squared hinge": kinds.SquaredHinge("none"),
                "exponential": kinds.Exponential("none"),
            },
        ),
        (
            axes[2],
            "probability of the right class",
            p,
            1.0,
            {
                "cross-entropy": kinds.BinaryCrossentropy(reduction="none"),
                "focal": kinds.BinaryFocalCrossentropy(reduction="none"),
            },
        ),
    )
    for axis, label, x, target, named in rows:
        for number, (name, loss) in enumerate(named.items()):
            values = loss(np.full((len(x), 1), target), x[:, np.newaxis])
            axis.plot(x, values, color=COLOURS[number], label=name)
        axis.set(xlabel=label, ylim=(0, 4))
        axis.legend(fontsize=7)
    return figure


def paths() -> Any:
    """Draw the ways of optimizers down a narrow valley."""
    figure, axes = panels(2, 3.8, 3, sharey=True)
    a, b = np.meshgrid(np.linspace(-4.5, 1.5, 120), np.linspace(-2.2, 2.2, 120))
    kinds = fc.optimizers
    groups = (
        {
            "gradient descent": kinds.SGD(0.085),
            "momentum": kinds.SGD(0.02, momentum=0.8),
            "Nesterov": kinds.SGD(0.02, momentum=0.8, nesterov=True),
        },
        {"Adagrad": kinds.Adagrad(1.0), "RMSprop": kinds.RMSprop(0.1), "Adam": kinds.Adam(0.2)},
    )
    for axis, optimizers in zip(axes, groups, strict=True):
        axis.contour(a, b, 0.5 * a**2 + 5 * b**2 * 2, levels=np.geomspace(0.1, 60, 12), cmap="Greys", linewidths=0.7)
        for number, (name, optimizer) in enumerate(optimizers.items()):
            p = np.array([-4.0, 1.5])
            way = [p.copy()]
            for _ in range(40):
                optimizer.update(p, p * [1, 20])
                way.append(p.copy())
            axis.plot(*np.array(way).T, ".-", color=COLOURS[number], label=name, markersize=3, linewidth=1)
        axis.plot(0, 0, "*", color="black", markersize=9)
        axis.legend(fontsize=7, loc="lower left")
    return figure


def rates() -> Any:
    """Draw learning rates over the steps."""
    figure, (axis,) = panels(1, 5.5, 2.8)
    kinds = fc.schedules
    steps = range(101)
    named = {
        "step": kinds.StepDecay(0.1, 25, 0.5),
        "exponential": kinds.ExponentialDecay(0.1, 25, 0.5),
        "inverse time": kinds.InverseTimeDecay(0.1, 25, 1.0),
        "polynomial, power 2": kinds.PolynomialDecay(0.1, 100, 0.0, 2),
        "cosine": kinds.CosineDecay(0.1, 100),
        "restarts": kinds.CosineDecayRestarts(0.1, 33, 2.0),
        "warm-up, then cosine": kinds.Warmup(kinds.CosineDecay(0.1, 80), 20),
    }
    for number, (name, schedule) in enumerate(named.items()):
        axis.plot(steps, [schedule(step) for step in steps], color=COLOURS[number], label=name, linewidth=1.3)
    axis.set(xlabel="step", ylabel="learning rate")
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def stopping() -> Any:
    """Draw the errors of training and validation, and where early stopping returns to."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (70, 1))
    y = np.sin(3 * x) + 0.3 * rng.standard_normal((70, 1))
    layers = [fc.Dense(128, activation="relu", kernel_initializer=name) for name in ("he_normal", "glorot_uniform")]
    model = fc.Sequential([fc.Input(1), *layers, fc.Dense(1)], seed=0)
    model.compile(fc.optimizers.Adam(0.02), "mse")
    model.fit(x[:20], y[:20], validation_data=(x[20:], y[20:]), epochs=250, verbose=0)
    figure, (axis,) = panels(1, 5, 2.8)
    history = model.history.history
    axis.semilogy(history["loss"], color=COLOURS[0], label="training")
    axis.semilogy(history["val_loss"], color=COLOURS[1], label="validation")
    best = int(np.argmin(history["val_loss"]))
    axis.axvline(best, color="black", linestyle=":", label="best validation")
    axis.set(xlabel="epoch", ylabel="mean squared error")
    axis.legend(fontsize=8)
    return figure


PICTURES = {
    "04-graph.svg": graph,
    "05-xor.png": xor,
    "07-descent.png": descent,
    "09-vanishing.png": vanishing,
    "11-edges.png": edges,
    "15-filters.png": filters,
    "19-activations.png": activations,
    "20-losses.png": losses,
    "21-paths.png": paths,
    "22-rates.png": rates,
    "22-stopping.png": stopping,
}


def main(names: list[str]) -> None:
    """Draw the pictures named, or all of them."""
    fc.set_num_threads(1)
    for name in names or PICTURES:
        drawing = PICTURES[name]()
        if isinstance(drawing, str):
            (IMAGES / name).write_text(drawing, "utf-8")
        else:
            drawn = io.BytesIO()
            drawing.savefig(drawn, dpi=60 if name == "11-edges.png" else 80)
            plt.close(drawing)
            Image.open(drawn).convert("RGB").quantize(128).save(IMAGES / name, optimize=True)  # far smaller


if __name__ == "__main__":
    main(sys.argv[1:])
