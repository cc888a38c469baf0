"""What the figures must reach: the targets of each row of a table, and how many of them hold.

A target names a figure of a row and its bound. A row without that figure, for want of a peer, says nothing about
its target, which then counts neither way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.networks import Network
from bench.report import percent
from bench.shapes import ConvShape


@dataclass(frozen=True)
class Target:
    """A bound of one figure of a row.

    Examples
    --------
    >>> target = Target("ratio", 1.3)
    >>> target.holds({"ratio": 1.4}), target.holds({"ratio": 1.2}), target.holds({"ratio": None})
    (True, False, None)
    """

    key: str
    bound: float
    write: Callable[[float], str] = str
    at_most: bool = False

    def holds(self, row: Mapping[str, Any]) -> bool | None:
        """Whether the row's figure keeps the bound; None where there is no figure."""
        value = row[self.key]
        if value is None:
            return None
        return bool(value <= self.bound if self.at_most else value >= self.bound)


TRAINING_RATIOS = {"LeNet-5": 4.0, "MNIST CNN": 3.0, "CIFAR CNN": 2.0, "ResNet-20 chain": 2.0}
"""At least so many times the images a second of the best peer, at the batch sizes of training."""

SINGLE_IMAGE_RATIO = 5.0

BATCHES = (32, 128)

MEAN_RATIO = 2.0
"""Geometric mean of all cases of `bench.kernels` against the best peers."""

MEMORY_SHARE = 0.5
"""At most so much of PyTorch's peak memory in a training step."""


def of_convolution(shape: ConvShape, pass_name: str) -> list[Target]:
    """Targets of one pass of one shape.

    Examples
    --------
    >>> [(t.key, t.bound) for t in of_convolution(ConvShape(8, 64, 56, 56, 64, 3, 3, padding=(1, 1)), "forward")]
    [('ratio', 1.3), ('peak_share', 0.8)]
    """
    depthwise = shape.groups == shape.c > 1
    kernel = (shape.r, shape.s)
    wide = min(shape.c // shape.groups, shape.k) >= 32
    rows, columns = shape.output_size
    targets = [Target("ratio", 1.3 if wide and kernel == (3, 3) and shape.stride == 1 else 1.0)]
    if depthwise:
        targets.append(Target("bandwidth_share", 0.7, percent))
    elif shape.c <= 3:
        targets.append(Target("peak_share", 0.55, percent))
    elif wide and kernel in ((3, 3), (1, 1)) and rows * columns >= 196:
        targets.append(Target("peak_share", 0.7 if pass_name == "grad_weight" else 0.8, percent))
    return targets


def of_training(network: Network, batch_size: int) -> list[Target]:
    """Targets of a training step.

    Examples
    --------
    >>> from bench.networks import NETWORKS
    >>> [t.bound for size in (1, 32, 64) for t in of_training(NETWORKS["LeNet-5"], size)]
    [5.0, 4.0]
    """
    if batch_size == 1:
        return [Target("ratio", SINGLE_IMAGE_RATIO)]
    if batch_size in BATCHES and network.name in TRAINING_RATIOS:
        return [Target("ratio", TRAINING_RATIOS[network.name])]
    return []


def of_inference(network: Network, batch_size: int) -> list[Target]:
    """Targets of a forward pass.

    Examples
    --------
    >>> from bench.networks import NETWORKS
    >>> [(t.key, t.bound) for t in of_inference(NETWORKS["LeNet-5"], 1)]
    [('ratio', 1.0), ('us', 15.0)]
    >>> [(t.key, t.bound) for t in of_inference(NETWORKS["CIFAR CNN"], 32)]
    [('ratio', 1.2)]
    """
    small_kernels = network.name != "LeNet-5"
    targets = [Target("ratio", 1.2 if small_kernels and batch_size in BATCHES else 1.0)]
    if not small_kernels and batch_size == 1:
        targets.append(Target("us", 15.0, lambda value: f"{value:.0f} us", at_most=True))
    return targets


def cell(targets: Iterable[Target], row: Mapping[str, Any]) -> str | None:
    """Write a row's targets, each with what became of it.

    Examples
    --------
    >>> cell([Target("ratio", 1.3), Target("peak", 0.8, percent)], {"ratio": 1.5, "peak": 0.7})
    '1.3 ok, 80% no'
    >>> cell([Target("ratio", 1.3)], {"ratio": None})
    '1.3 -'
    """
    marks = {True: "ok", False: "no", None: "-"}
    return ", ".join(f"{target.write(target.bound)} {marks[target.holds(row)]}" for target in targets) or None


def print_count(verdicts: Sequence[bool | None]) -> None:
    """Print the last line of a benchmark: how many targets hold.

    Examples
    --------
    >>> print_count([True, False, None, True])
    targets: 2 of 3 hold; 1 without a figure
    """
    known = [verdict for verdict in verdicts if verdict is not None]
    unknown = len(verdicts) - len(known)
    print(f"targets: {sum(known)} of {len(known)} hold" + (f"; {unknown} without a figure" if unknown else ""))
