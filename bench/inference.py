"""``python -m bench.inference``: the time of a forward pass of whole networks, against every peer.

Everyone builds the same network with the same weights beforehand; a call takes a batch of images that
lies in memory and returns the logits, which must agree before anyone is timed.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

import fastconv as fc
from bench import command, environment, targets
from bench.networks import NETWORKS, Array, Batch, Conv, Dense, Mean, Network, Pool
from bench.peers import ONNX_IR_VERSION, ONNX_OPSET
from bench.report import Column, Row, geometric_mean, number, percent
from bench.timing import Effort, interleave
from bench.trainers import FastconvTrainer, TorchTrainer
from fastconv import _dispatch

COLUMNS = (
    Column("network", "network", 15, left=True),
    Column("batch", "batch", 5),
    Column("us", "us", 10, number(1)),
    Column("images_per_second", "images/s", 9, number(0)),
    Column("peak_share", "peak", 4, percent),
    Column("best_peer", "best peer", 19, left=True),
    Column("peer_us", "its us", 10, number(1)),
    Column("ratio", "ratio", 6, number(2)),
    Column("target", "target", 16, left=True),
)

TOLERANCE = 1e-4
"""Share of the largest logit by which float32 logits may differ."""

Call: TypeAlias = Callable[[], Any]
"""A forward pass; it returns an array or tensor of the logits."""


class Predictor(Protocol):
    """One way to run a network forward."""

    def prepare(self, network: Network, x: Array) -> Call:
        """Build the network and return a call on ``x``."""
        ...


class FastconvPredictor:
    """fastconv: a call of the model, as users make it."""

    def prepare(self, network: Network, x: Array) -> Call:
        """Build the network and return a call on ``x``."""
        model = FastconvTrainer.build(network)
        return lambda: model(x)


class TorchPredictor(TorchTrainer):
    """PyTorch, eager and without autograd, in one of its two memory formats."""

    def prepare(self, network: Network, x: Array) -> Call:  # type: ignore[override]
        """Build the network and return a call on ``x``."""
        torch = self.torch
        model = self.build(network).eval()
        images = torch.from_numpy(x).contiguous(memory_format=self.memory_format)

        def call() -> Any:
            with torch.inference_mode():
                return model(images)

        return call


class OnnxRuntimePredictor:
    """ONNX Runtime, which packs the weights and fuses what it can when the session is made."""

    def __init__(self, threads: int) -> None:
        self.onnx: Any = importlib.import_module("onnx")
        self.onnxruntime: Any = importlib.import_module("onnxruntime")
        self.options = self.onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1

    def _nodes(self, network: Network) -> tuple[list[Any], list[Any], str]:
        """Nodes, constants, and the name of what the last node gives."""
        make_node, constant = self.onnx.helper.make_node, self.onnx.numpy_helper.from_array
        nodes: list[Any] = []
        constants: list[Any] = []
        pairs = iter(network.parameters())
        value = "x"

        def add(kind: str, *inputs: str, **attributes: Any) -> None:
            nonlocal value
            name = f"value{len(nodes)}"
            nodes.append(make_node(kind, [value, *inputs], [name], **attributes))
            value = name

        for layer in network.layers:
            if isinstance(layer, Pool):
                add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
                continue
            if isinstance(layer, Mean):
                add("GlobalAveragePool")
                continue
            names = [f"weight{len(constants)}", f"bias{len(constants)}"]
            constants += [constant(array, name) for array, name in zip(next(pairs), names, strict=True)]
            if isinstance(layer, Conv):
                add("Conv", *names, strides=[layer.stride] * 2, pads=[layer.pad] * 4)
            else:
                add("Flatten")
                add("Gemm", *names, transB=1)
            if not isinstance(layer, Dense) or layer.relu:
                add("Relu")
        return nodes, constants, value

    def prepare(self, network: Network, x: Array) -> Call:
        """Build the network and return a call on ``x``."""
        helper = self.onnx.helper
        nodes, constants, last = self._nodes(network)
        kind = helper.np_dtype_to_tensor_dtype(x.dtype)
        graph = helper.make_graph(
            nodes,
            "network",
            [helper.make_tensor_value_info("x", kind, x.shape)],
            [helper.make_tensor_value_info(last, kind, (len(x), 10))],
            constants,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", ONNX_OPSET)], ir_version=ONNX_IR_VERSION
        )
        session = self.onnxruntime.InferenceSession(
            model.SerializeToString(), self.options, providers=["CPUExecutionProvider"]
        )
        return lambda: session.run(None, {"x": x})[0]


def contenders(threads: int) -> tuple[dict[str, Predictor], dict[str, str]]:
    """Make all predictors that are installed, and say why the others are absent.

    Parameters
    ----------
    threads : int
        Threads for each; see :func:`bench.environment.relaunch_with_threads`.

    Returns
    -------
    present : dict of str to Predictor
        By name; ``"fastconv"`` is always among them.
    absent : dict of str to str
        Name and reason.
    """
    fc.set_num_threads(threads)
    makers: dict[str, Callable[[], Predictor]] = {
        "fastconv": FastconvPredictor,
        "onnxruntime": lambda: OnnxRuntimePredictor(threads),
        "torch": lambda: TorchPredictor(threads, "contiguous_format"),
        "torch channels_last": lambda: TorchPredictor(threads, "channels_last"),
    }
    return environment.installed(makers)


def check_agreement(calls: Mapping[str, Call], what: str) -> None:
    """Raise unless everyone's logits are fastconv's; this also warms them up.

    Examples
    --------
    >>> check_agreement({"fastconv": lambda: np.ones(3), "peer": lambda: np.zeros(3)}, "a network")
    Traceback (most recent call last):
    ArithmeticError: expected peer to compute a network as fastconv does ; received logits that are 1 away
    """
    logits = {name: np.asarray(call()) for name, call in calls.items()}
    own = logits["fastconv"]
    for name, values in logits.items():
        away = float(np.abs(values - own).max())
        if not away <= TOLERANCE * np.abs(own).max():
            raise ArithmeticError(
                f"expected {name} to compute {what} as fastconv does ; received logits that are {away:.3g} away"
            )


def measure(
    network: Network, batch_size: int, present: Mapping[str, Predictor], *, threads: int, effort: Effort
) -> Row:
    """Time one network at one batch size; the row's keys are those of :data:`COLUMNS` and more."""
    x = Batch.random(network, batch_size).x
    calls = {name: predictor.prepare(network, x) for name, predictor in present.items()}
    check_agreement(calls, f"{network.name} at batch {batch_size}")
    neighbours = environment.Neighbours()
    probes = {"peak": lambda: _dispatch.fma_peak(threads)}
    seconds, limits = interleave(calls, effort, threads=threads, probes=probes)
    own = seconds["fastconv"]
    best = min((name for name in seconds if name != "fastconv"), key=seconds.__getitem__, default=None)
    row: dict[str, Any] = {
        "network": network.name,
        "batch": batch_size,
        "us": 1e6 * own,
        "images_per_second": batch_size / own,
        "peak_share": batch_size * network.inference_flops / own / limits["peak"],
        "best_peer": best,
        "peer_us": 1e6 * seconds[best] if best else None,
        "ratio": seconds[best] / own if best else None,
        "seconds": seconds,
        "fma_peak": limits["peak"],
        "neighbours": neighbours.share(),
    }
    wanted = targets.of_inference(network, batch_size)
    return {**row, "target": targets.cell(wanted, row), "holds": [target.holds(row) for target in wanted]}


def print_summary(rows: Sequence[Row]) -> None:
    """Print the geometric mean of the ratios, and how many targets hold."""
    ratios = [row["ratio"] for row in rows if row["ratio"]]
    if ratios:
        print(f"geometric mean against the best peer: {geometric_mean(ratios):.2f}")
    targets.print_count([verdict for row in rows for verdict in row["holds"]])


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = command.parser("bench.inference", __doc__)
    options.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    options.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 32, 128])
    command.add_effort(options, seconds=2.0)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    options = parser().parse_args(arguments)
    environment.relaunch_with_threads(options.threads)
    present, absent = contenders(options.threads)
    run = command.Run(options, present, absent)
    run.begin(COLUMNS)
    for name in options.networks:
        for size in options.batch_sizes:
            run.add(measure(NETWORKS[name], size, present, threads=options.threads, effort=run.effort))
    run.end(f"inference-{options.threads}")
    print_summary(run.rows)


if __name__ == "__main__":
    main()
