"""The same weights, batches and optimizer give PyTorch's losses, step for step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastconv.layers import AvgPool2D, Conv2D, Dense, Flatten, Input, MaxPool2D
from fastconv.optimizers import SGD, Adam, Optimizer
from fastconv.training import Sequential

torch = pytest.importorskip("torch", reason="the peer in this test is PyTorch")

STEPS, BATCH = 100, 16


def lenet(pool: Any, activation: str) -> Sequential:
    return Sequential(
        [
            Input((1, 28, 28)),
            Conv2D(6, 5, padding="same", activation=activation),
            pool(2),
            Conv2D(16, 5, activation=activation),
            pool(2),
            Flatten(),
            Dense(120, activation=activation),
            Dense(84, activation=activation),
            Dense(10),
        ],
        seed=0,
        dtype="float64",
    )


def torch_lenet(pool: Any, activation: Any) -> Any:
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        activation(),
        pool(2),
        nn.Conv2d(6, 16, 5),
        activation(),
        pool(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        activation(),
        nn.Linear(120, 84),
        activation(),
        nn.Linear(84, 10),
    ).double()


def batches() -> tuple[np.ndarray, np.ndarray]:
    """A class is a bright band at its own height, so that there is something to learn."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, (STEPS, BATCH))
    images = rng.standard_normal((STEPS, BATCH, 1, 28, 28))
    for step, image in np.ndindex(STEPS, BATCH):
        row = 2 * labels[step, image] + 4
        images[step, image, 0, row : row + 3] += 1
    return images, labels


OPTIMIZERS = {
    "sgd": (lambda: SGD(0.01), lambda p: torch.optim.SGD(p, lr=0.01)),
    "momentum": (lambda: SGD(0.01, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9)),
    "nesterov": (
        lambda: SGD(0.01, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    ),
    "adam": (lambda: Adam(0.001), lambda p: torch.optim.Adam(p, lr=0.001, eps=1e-7)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("modern", [True, False], ids=["relu-max", "tanh-avg"])
def test_lenet_makes_pytorch_s_losses(name: str, modern: bool) -> None:
    model = lenet(MaxPool2D, "relu") if modern else lenet(AvgPool2D, "tanh")
    peer = torch_lenet(torch.nn.MaxPool2d, torch.nn.ReLU) if modern else torch_lenet(torch.nn.AvgPool2d, torch.nn.Tanh)
    with torch.no_grad():
        for parameter, weight in zip(peer.parameters(), model.get_weights(), strict=True):
            parameter.copy_(torch.from_numpy(weight))
    make, make_peer = OPTIMIZERS[name]
    optimizer: Optimizer = make()
    model.compile(optimizer, "sparse_categorical_crossentropy")
    peer_optimizer = make_peer(peer.parameters())
    images, labels = batches()
    losses, peer_losses = [], []
    for x, y in zip(images, labels, strict=True):
        losses.append(model.train_on_batch(x, y))
        peer_optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(peer(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        peer_optimizer.step()
        peer_losses.append(loss.item())
    np.testing.assert_allclose(losses, peer_losses, rtol=1e-9)
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
