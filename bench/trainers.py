"""The contenders of a training step: each builds a network and returns one step on one batch.

A step is forward, backward and SGD with momentum, and returns the loss as a Python float. All start
from the same weights and must lose the same. Batches lie in memory in the library's own type.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import fastconv as fc
from bench.environment import installed
from bench.networks import Batch, Conv, Dense, LayerSpec, Mean, Network, Pool
from fastconv.numpy_baseline import NumpyTrainer

LEARNING_RATE = 1e-6
"""So small that no unit dies: its velocity would decay into slow subnormal numbers."""

MOMENTUM = 0.9

Step = Callable[[], float]


class Trainer(Protocol):
    """One way to train a network."""

    def prepare(self, network: Network, batch: Batch) -> Step:
        """Build the network with its initial weights and return a step on ``batch``."""
        ...


class FastconvTrainer:
    """fastconv, through the same ``train_on_batch`` that users call, or plain NumPy in its place.

    Parameters
    ----------
    baseline : type of NumpyTrainer, optional
        What makes the model's steps instead of the model.
    """

    def __init__(self, baseline: type[NumpyTrainer] | None = None) -> None:
        self.baseline = baseline

    @staticmethod
    def build(network: Network) -> fc.Sequential:
        """Build and compile the network with its initial weights."""
        layers: list[fc.layers.Layer] = [fc.Input(shape=network.input_shape)]
        flat = False
        for spec in network.layers:
            if isinstance(spec, Conv):
                layers.append(fc.Conv2D(spec.filters, spec.kernel_size, spec.stride, spec.pad, activation="relu"))
            elif isinstance(spec, Pool):
                layers.append(fc.MaxPool2D(2))
            elif isinstance(spec, Mean):
                layers.append(fc.GlobalAvgPool2D())
                flat = True
            else:
                if not flat:
                    layers.append(fc.Flatten())
                    flat = True
                layers.append(fc.Dense(spec.units, activation="relu" if spec.relu else None))
        model = fc.Sequential(layers)
        model.compile(
            optimizer=fc.optimizers.SGD(learning_rate=LEARNING_RATE, momentum=MOMENTUM),
            loss=fc.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        model.set_weights([array for pair in network.parameters() for array in pair])
        return model

    def prepare(self, network: Network, batch: Batch) -> Step:
        """Return a step on ``batch``."""
        model = self.build(network)
        trainer = self.baseline(model) if self.baseline else model
        return lambda: trainer.train_on_batch(batch.x, batch.y)


class TorchTrainer:
    """PyTorch, eager, in one of its two memory formats, with its fused optimizer."""

    def __init__(self, threads: int, memory_format: str) -> None:
        self.torch: Any = importlib.import_module("torch")
        self.torch.set_num_threads(threads)
        self.memory_format = getattr(self.torch, memory_format)

    def _layer(self, spec: LayerSpec, weight_shape: tuple[int, ...] | None) -> list[Any]:
        nn = self.torch.nn
        if isinstance(spec, Pool) or weight_shape is None:
            return [nn.MaxPool2d(2) if isinstance(spec, Pool) else nn.AdaptiveAvgPool2d(1)]
        if isinstance(spec, Conv):
            filters, channels = weight_shape[:2]
            return [nn.Conv2d(channels, filters, spec.kernel_size, spec.stride, spec.pad), nn.ReLU()]
        assert isinstance(spec, Dense)
        units, inputs = weight_shape
        return [nn.Flatten(), nn.Linear(inputs, units), *([nn.ReLU()] if spec.relu else [])]

    def build(self, network: Network) -> Any:
        """Build the network with its initial weights."""
        torch = self.torch
        shapes = iter(network.weight_shapes())
        layers: list[Any] = []
        for spec in network.layers:
            layers += self._layer(spec, None if isinstance(spec, Pool | Mean) else next(shapes)[0])
        model = torch.nn.Sequential(*layers)
        with torch.no_grad():
            arrays = (array for pair in network.parameters() for array in pair)
            for parameter, array in zip(model.parameters(), arrays, strict=True):
                parameter.copy_(torch.from_numpy(array))
        return model.to(memory_format=self.memory_format)

    def prepare(self, network: Network, batch: Batch) -> Step:
        """Return a step on ``batch``."""
        torch = self.torch
        model = self.build(network)
        x = torch.from_numpy(batch.x).contiguous(memory_format=self.memory_format)
        y = torch.from_numpy(batch.y)
        optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, fused=True)

        def step() -> float:
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return float(loss.item())

        return step


class JaxTrainer:
    """JAX with NHWC images: the whole step compiled, old parameters' memory given to the new."""

    def __init__(self) -> None:
        self.jax: Any = importlib.import_module("jax")
        self.jax.config.update("jax_platforms", "cpu")

    def _forward(self, network: Network, parameters: Sequence[tuple[Any, Any]], x: Any) -> Any:
        jax = self.jax
        pairs = iter(parameters)
        for spec in network.layers:
            if isinstance(spec, Pool):
                # The gradient of a reshaped maximum is several times faster than reduce_window's.
                images, rows, columns, channels = x.shape
                x = x.reshape(images, rows // 2, 2, columns // 2, 2, channels).max(axis=(2, 4))
                continue
            if isinstance(spec, Mean):
                x = x.mean(axis=(1, 2))
                continue
            weight, bias = next(pairs)
            if isinstance(spec, Conv):
                x = jax.lax.conv_general_dilated(
                    *(x, weight, (spec.stride,) * 2, [(spec.pad,) * 2] * 2), dimension_numbers=("NHWC", "HWIO", "NHWC")
                )
            else:
                x = x.transpose(0, 3, 1, 2) if x.ndim == 4 else x  # flattened as the others do
                x = x.reshape(len(x), -1) @ weight
            x = x + bias
            if isinstance(spec, Conv) or spec.relu:
                x = jax.nn.relu(x)
        return x

    def prepare(self, network: Network, batch: Batch) -> Step:
        """Return a step on ``batch``."""
        jax = self.jax
        x = jax.numpy.asarray(batch.x.transpose(0, 2, 3, 1))
        y = jax.numpy.asarray(batch.y)
        parameters = [
            (
                jax.numpy.asarray(weight.transpose(*range(2, weight.ndim), 1, 0)),
                jax.numpy.asarray(bias),
            )
            for weight, bias in network.parameters()
        ]
        state = (parameters, jax.tree.map(jax.numpy.zeros_like, parameters))

        def loss_of(parameters: Any, x: Any, y: Any) -> Any:
            logits = self._forward(network, parameters, x)
            chosen = jax.numpy.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)
            return -chosen.mean()

        def updated(state: Any, x: Any, y: Any) -> Any:
            parameters, velocity = state
            loss, gradients = jax.value_and_grad(loss_of)(parameters, x, y)
            velocity = jax.tree.map(lambda v, g: MOMENTUM * v - LEARNING_RATE * g, velocity, gradients)
            return loss, (jax.tree.map(jax.numpy.add, parameters, velocity), velocity)

        compiled = jax.jit(updated, donate_argnums=0)

        def step() -> float:
            nonlocal state
            loss, state = compiled(state, x, y)
            return float(loss)

        return step


def contenders(threads: int) -> tuple[dict[str, Trainer], dict[str, str]]:
    """Make all trainers that are installed, and say why the others are absent.

    Parameters
    ----------
    threads : int
        Threads for each; see :func:`bench.environment.relaunch_with_threads`.

    Returns
    -------
    present : dict of str to Trainer
        By name; ``"fastconv"`` and ``"numpy"`` are always among them.
    absent : dict of str to str
        Name and reason.
    """
    fc.set_num_threads(threads)
    makers: dict[str, Callable[[], Trainer]] = {
        "fastconv": FastconvTrainer,
        "torch": lambda: TorchTrainer(threads, "contiguous_format"),
        "torch channels_last": lambda: TorchTrainer(threads, "channels_last"),
        "jax": JaxTrainer,
        "numpy": lambda: FastconvTrainer(NumpyTrainer),
    }
    return installed(makers)
