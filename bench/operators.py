"""``python -m bench.operators``: everything but convolution against PyTorch and the machine's limits.

Pooling, dense layers, activations, softmax, the loss and the optimizers' updates, each forward and backward.
fastconv and PyTorch take turns, and the FMA peak and the memory's speed are measured in the same rounds. Each case
has its target: a share of the memory's speed where its arrays are larger than the second-level cache, else a ratio
against PyTorch.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import fastconv as fc
from bench import command, environment, targets
from bench.report import Column, Row, geometric_mean, number, percent
from bench.timing import Effort, interleave, memory_bandwidth
from fastconv import _dispatch, ops

Array: TypeAlias = NDArray[np.float32]
Call: TypeAlias = Callable[[], Any]

COLUMNS = (
    Column("group", "group", 10, left=True),
    Column("case", "case", 36, left=True),
    Column("ms", "ms", 8, number(4)),
    Column("gigabytes", "GB/s", 6, number(1)),
    Column("bandwidth_share", "memory", 6, percent),
    Column("gflops", "GFLOP/s", 7, number(1)),
    Column("peak_share", "peak", 4, percent),
    Column("torch_ms", "torch ms", 8, number(4)),
    Column("ratio", "ratio", 6, number(2)),
    Column("target", "target", 10, left=True),
    Column("holds", "holds", 5, lambda holds: "yes" if holds else "NO"),
)

CACHE_BYTES = 4 * 2**20
"""What a case must move at least for the memory to be its limit: more than any second-level cache holds."""

MEMORY_TARGET = 0.7
DENSE_TARGET = 0.8
TOLERANCE = 1e-3
"""Share of the largest number by which results may differ: enough to see that both compute the same."""


@dataclass(frozen=True)
class Case:
    """One operator on arrays of one size, and the same in PyTorch."""

    group: str
    name: str
    elements: int
    """Read and written: what the memory must move at least."""
    own: Call
    torch: Call | None
    multiply_adds: int = 0

    @property
    def label(self) -> str:
        """Group and name, by which a filter chooses."""
        return f"{self.group} {self.name}"


def _random(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def poolings(torch: Any) -> Iterator[Case]:
    """Yield the poolings of the usual networks: 2 x 2, and the overlapping 3 x 3 of ResNets."""
    for shape, window in (
        ((64, 6, 28, 28), (2, 2, 0)),
        ((64, 16, 10, 10), (2, 2, 0)),
        ((64, 32, 24, 24), (2, 2, 0)),
        ((64, 64, 8, 8), (2, 2, 0)),
        ((32, 32, 64, 64), (2, 2, 0)),
        ((8, 64, 56, 56), (3, 2, 1)),
    ):
        yield from _pooling(torch, shape, window)


def _pooling(torch: Any, shape: tuple[int, int, int, int], window: tuple[int, int, int]) -> Iterator[Case]:
    x = _random(*shape)
    y = fc.max_pool2d(x, *window)
    grad = _random(*y.shape)
    name = f"{','.join(map(str, shape))} {window[0]}x{window[0]}/{window[1]}"
    peers: list[Call | None] = [None] * 4
    if torch is not None:
        function, aten = torch.nn.functional, torch.ops.aten
        tx, tgrad = torch.from_numpy(x), torch.from_numpy(grad)
        indices = function.max_pool2d(tx, *window, return_indices=True)[1]
        pairs = [[size, size] for size in window]
        peers = [
            lambda: function.max_pool2d(tx, *window),
            lambda: aten.max_pool2d_with_indices_backward(tgrad, tx, *pairs, [1, 1], False, indices),
            lambda: function.avg_pool2d(tx, *window),
            lambda: aten.avg_pool2d_backward(tgrad, tx, *pairs, False, True, None),
        ]
    both = x.size + y.size
    yield Case("max pool", f"{name} forward", both, lambda: fc.max_pool2d(x, *window), peers[0])
    yield Case(
        "max pool", f"{name} backward", both + x.size, lambda: fc.max_pool2d_backward(grad, x, *window), peers[1]
    )
    yield Case("avg pool", f"{name} forward", both, lambda: fc.avg_pool2d(x, *window), peers[2])
    yield Case("avg pool", f"{name} backward", both, lambda: fc.avg_pool2d_backward(grad, shape, *window), peers[3])


def dense_layers(torch: Any) -> Iterator[Case]:
    """Yield dense layers of LeNet-5, of the MNIST and CIFAR networks, and larger ones."""
    for images in (1, 32, 128):
        for inputs, outputs in (
            *((400, 120), (120, 84), (84, 10), (9216, 128)),
            *((128, 10), (1600, 64), (4096, 256), (2048, 512)),
        ):
            yield from _dense(torch, images, inputs, outputs)


def _dense(torch: Any, images: int, inputs: int, outputs: int) -> Iterator[Case]:
    x, weight, bias = _random(images, inputs), _random(outputs, inputs), _random(outputs)
    grad = _random(images, outputs)
    peers: list[Call | None] = [None] * 3
    if torch is not None:
        tx, tweight, tbias, tgrad = map(torch.from_numpy, (x, weight, bias, grad))
        peers = [
            lambda: torch.nn.functional.linear(tx, tweight, tbias),
            lambda: tgrad @ tweight,
            lambda: tgrad.t() @ tx,
        ]

    def gradient(mask: tuple[bool, bool, bool]) -> Any:
        return fc.dense_backward(grad, x, weight, output_mask=mask)[mask.index(True)]

    calls = {
        "forward": lambda: fc.dense(x, weight, bias),
        "grad_input": lambda: gradient((True, False, False)),
        "grad_weight": lambda: gradient((False, True, False)),
    }
    elements = x.size + weight.size + grad.size
    for (name, own), peer in zip(calls.items(), peers, strict=True):
        yield Case(
            "dense", f"{images},{inputs},{outputs} {name}", elements, own, peer, images * inputs * outputs
        )  # fmt: skip


def activations(torch: Any) -> Iterator[Case]:
    """Yield the activations on an array in the cache and on one beyond it."""
    for size in (65536, 4 * 2**20):
        x, grad = _random(size), _random(size)
        for name in ("relu", "leaky_relu", "sigmoid", "tanh"):
            yield from _activation(torch, name, x, grad)


def _activation(torch: Any, name: str, x: Array, grad: Array) -> Iterator[Case]:
    forward, backward = getattr(fc, name), getattr(fc, f"{name}_backward")
    y = forward(x)
    peers: list[Call | None] = [None] * 2
    if torch is not None:
        aten = torch.ops.aten
        tx, ty, tgrad = map(torch.from_numpy, (x, y, grad))
        derivative = {
            "relu": lambda: aten.threshold_backward(tgrad, ty, 0.0),
            "leaky_relu": lambda: aten.leaky_relu_backward(tgrad, ty, 0.01, True),
            "sigmoid": lambda: aten.sigmoid_backward(tgrad, ty),
            "tanh": lambda: aten.tanh_backward(tgrad, ty),
        }[name]
        peers = [lambda: getattr(aten, name)(tx), derivative]
    yield Case("activation", f"{x.size} {name}", 2 * x.size, lambda: forward(x), peers[0])
    yield Case("activation", f"{x.size} {name} backward", 3 * x.size, lambda: backward(grad, y), peers[1])


def softmaxes(torch: Any) -> Iterator[Case]:
    """Yield softmax and the loss with its gradient, on digits and on a thousand classes."""
    for images, classes in ((32, 10), (128, 10), (4096, 1000)):
        yield from _softmax(torch, _random(images, classes), np.random.default_rng(0).integers(0, classes, images))


def _softmax(torch: Any, x: Array, labels: NDArray[np.int64]) -> Iterator[Case]:
    y, grad = fc.softmax(x), _random(*x.shape)
    peers: list[Call | None] = [None] * 3
    if torch is not None:
        aten = torch.ops.aten
        tx, ty, tgrad, tlabels = map(torch.from_numpy, (x, y, grad, labels))
        one = torch.ones(())

        def loss_gradient() -> Any:
            scores = aten._log_softmax(tx, 1, False)
            _, weight = aten.nll_loss_forward(scores, tlabels, None, 1, -100)
            upstream = aten.nll_loss_backward(one, scores, tlabels, None, 1, -100, weight)
            return aten._log_softmax_backward_data(upstream, scores, 1, torch.float32)

        peers = [
            lambda: aten._softmax(tx, 1, False),
            lambda: aten._softmax_backward_data(tgrad, ty, 1, torch.float32),
            loss_gradient,
        ]
    name = ",".join(map(str, x.shape))
    yield Case("softmax", f"{name} forward", 2 * x.size, lambda: fc.softmax(x), peers[0])
    yield Case("softmax", f"{name} backward", 3 * x.size, lambda: fc.softmax_backward(grad, y), peers[1])
    yield Case(
        "softmax", f"{name} cross-entropy", 2 * x.size, lambda: fc.softmax_cross_entropy(x, labels)[1], peers[2]
    )  # fmt: skip


def updates(torch: Any) -> Iterator[Case]:
    """Yield the optimizers' steps, on the parameters of LeNet-5 and on more than a cache holds."""
    for size in (61706, 4 * 2**20):
        yield from _updates(torch, size)


def _updates(torch: Any, size: int) -> Iterator[Case]:
    rate = 1e-6  # so small that the parameters stay as they are while it runs a thousand times
    start, gradient = _random(size), _random(size)

    def buffers(count: int) -> list[Array]:
        return [start.copy(), gradient, *(np.zeros_like(start) for _ in range(count - 2))]

    plain, momentum, adam = buffers(2), buffers(3), buffers(4)

    def own(update: Callable[..., None], arrays: list[Array], *options: float) -> Any:
        update(*arrays, *options)
        return arrays[0]

    calls: list[tuple[str, int, Call]] = [
        ("sgd", 3, lambda: own(ops.sgd_update, plain, None, rate)),  # type: ignore[arg-type]
        ("momentum", 5, lambda: own(ops.sgd_update, momentum, rate, 0.9)),
        ("adam", 7, lambda: own(ops.adam_update, adam, rate, 0.9, 0.999, 1e-8, 1)),
    ]
    peers: list[Call | None] = [None] * 3
    if torch is not None:
        lists = [[[torch.from_numpy(array)] for array in buffers(count)] for count in (2, 3, 4)]
        step = torch.tensor(1.0)
        sgd = {"weight_decay": 0.0, "lr": rate, "dampening": 0.0, "nesterov": False, "maximize": False}
        rates = {"lr": rate, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "eps": 1e-8}

        def peer(update: Callable[..., Any], arrays: list[list[Any]], *more: Any, **options: Any) -> Any:
            update(*arrays, *more, **options)
            return arrays[0][0]

        peers = [
            lambda: lists[0][0][0].add_(lists[0][1][0], alpha=-rate),
            lambda: peer(torch._fused_sgd_, lists[1], momentum=0.9, is_first_step=False, **sgd),
            lambda: peer(torch._fused_adam_, lists[2], [], [step], amsgrad=False, maximize=False, **rates),
        ]
    for (name, moved, call), other in zip(calls, peers, strict=True):
        yield Case("update", f"{size} {name}", moved * size, call, other)


GROUPS: tuple[Callable[[Any], Iterator[Case]], ...] = (poolings, dense_layers, activations, softmaxes, updates)


def check_agreement(case: Case) -> None:
    """Raise unless PyTorch computes the same; this also warms both up.

    Examples
    --------
    >>> check_agreement(Case("a", "sum", 2, lambda: np.ones(2), lambda: np.zeros(2)))
    Traceback (most recent call last):
    ArithmeticError: expected torch to compute a sum as fastconv does ; received a difference of 1
    """
    result = np.array(case.own())
    if case.torch is not None:
        difference = np.abs(result - np.asarray(case.torch())).max()
        if not difference <= TOLERANCE * np.abs(result).max():
            raise ArithmeticError(
                f"expected torch to compute {case.label} as fastconv does ; received a difference of {difference:.3g}"
            )


def target(case: Case) -> tuple[str, float]:
    """Return which figure of the row a case must reach, and how much of it."""
    if case.multiply_adds:
        return "ratio", DENSE_TARGET
    if 4 * case.elements > CACHE_BYTES:
        return "bandwidth_share", MEMORY_TARGET
    return "ratio", 1.0


def measure(case: Case, *, threads: int, effort: Effort, bandwidth: Callable[[], float]) -> Row:
    """Time one case; the keys of the row are those of :data:`COLUMNS` and more."""
    check_agreement(case)
    calls = {"fastconv": case.own} if case.torch is None else {"fastconv": case.own, "torch": case.torch}
    probes = {"peak": lambda: _dispatch.fma_peak(threads), "bandwidth": bandwidth}
    seconds, limits = interleave(calls, effort, threads=threads, probes=probes)
    own, flops, moved = seconds["fastconv"], 2 * case.multiply_adds, 4 * case.elements
    row: dict[str, Any] = {
        "group": case.group,
        "case": case.name,
        "ms": 1e3 * own,
        "gigabytes": moved / own / 1e9,
        "bandwidth_share": moved / own / limits["bandwidth"],
        "gflops": flops / own / 1e9 if flops else None,
        "peak_share": flops / own / limits["peak"] if flops else None,
        "torch_ms": 1e3 * seconds["torch"] if case.torch else None,
        "ratio": seconds["torch"] / own if case.torch else None,
        "fma_peak": limits["peak"],
        "memory_bandwidth": limits["bandwidth"],
    }
    figure, least = target(case)
    title = "memory" if figure == "bandwidth_share" else figure
    row["target"] = f"{title} {percent(least) if title == 'memory' else least}"
    row["holds"] = None if row[figure] is None else bool(row[figure] >= least)
    return row


def print_summary(rows: Sequence[Row]) -> None:
    """Print the geometric mean of each group's ratios, and how many targets hold."""
    for group in dict.fromkeys(row["group"] for row in rows):
        ratios = [row["ratio"] for row in rows if row["group"] == group and row["ratio"]]
        if ratios:
            print(f"  {geometric_mean(ratios):6.2f}  {group}, {len(ratios)} cases against torch")
    targets.print_count([row["holds"] for row in rows])


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = command.parser("bench.operators", __doc__)
    options.add_argument("--filter", default="", help='words that a case must have, such as "dense 128"')
    command.add_effort(options)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    options = parser().parse_args(arguments)
    environment.relaunch_with_threads(options.threads)
    present, absent = environment.installed({"torch": lambda: importlib.import_module("torch")})
    torch: Any = present.get("torch")
    fc.set_num_threads(options.threads)
    if torch is not None:
        torch.set_num_threads(options.threads)
        torch.set_grad_enabled(False)
    run = command.Run(options, ["fastconv", *present], absent)
    bandwidth = memory_bandwidth(options.threads)
    run.begin(COLUMNS)
    words = options.filter.split()
    for group in GROUPS:
        for case in group(torch):
            if all(word in case.label for word in words):
                run.add(measure(case, threads=options.threads, effort=run.effort, bandwidth=bandwidth))
    if not run.rows:
        raise SystemExit(f"expected words of a case's name in --filter ; received {options.filter!r}")
    run.end(f"operators-{options.threads}")
    print_summary(run.rows)


if __name__ == "__main__":
    main()
