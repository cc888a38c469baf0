"""``python -m bench.overhead``: what Python adds to the kernels, in calls, in inference and in memory.

Each public operator is called on arrays so small that its kernel takes almost no time, and the kernels that the call
runs are run again by themselves, with the same arguments. The two take turns; their difference is what the call
costs beside them. Then LeNet-5 on one image, against ONNX Runtime where it is installed, and what the second step of
a training still allocates.
"""

from __future__ import annotations

import argparse
import importlib
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import fastconv
from bench import command, environment, targets
from bench.inference import OnnxRuntimePredictor
from bench.networks import NETWORKS, Batch
from bench.report import Column, Row, number
from bench.timing import Effort, interleave
from bench.trainers import FastconvTrainer
from fastconv import ops
from fastconv._call import Tape

CALL_TARGET = 1.5
"""Microseconds that a public call may cost over its kernels."""

INFERENCE_TARGET = 15.0
"""Microseconds of LeNet-5 on one image, or ONNX Runtime's time where that is less."""

ALLOCATED_TARGET = 64.0
"""KiB that Python may hold at once in the second step: objects, but no array of a layer."""

FAULTS_TARGET = 64
"""Pages that the second step may touch for the first time, of 4 KiB: no array of a layer either."""

STEP_BATCH = 128
"""Images of that step: an array of LeNet's first layer then has 2.4 MB, or 588 pages."""

CALLS = (
    Column("what", "a call of", 28, left=True),
    Column("call", "call us", 8, number(2)),
    Column("kernels", "kernel us", 9, number(2)),
    Column("figure", "beside it", 9, number(2)),
    Column("target", "target", 6, number(1)),
    Column("holds", "holds", 5, lambda holds: "yes" if holds else "no", left=True),
)

REST = (
    Column("what", "LeNet-5", 42, left=True),
    Column("figure", "figure", 8, number(1)),
    Column("target", "target", 8, number(1)),
    Column("unit", "unit", 5, left=True),
    Column("holds", "holds", 5, lambda holds: "yes" if holds else "no", left=True),
)

Call = Callable[[], object]


def calls() -> dict[str, Call]:
    """Return a call of every public operator, on a few numbers.

    Examples
    --------
    >>> from fastconv import ops
    >>> sorted(calls()) == sorted(ops.__all__)
    True
    """
    ones: Callable[..., Any] = lambda *shape: np.ones(shape, np.float32)  # noqa: E731
    x, weight, bias = ones(1, 2, 6, 6), ones(4, 2, 3, 3), ones(4)
    y, pooled, row, matrix = ones(1, 4, 6, 6), ones(1, 2, 3, 3), ones(1, 8), ones(4, 8)
    columns = ops.im2col(x, 3)
    labels = np.zeros(1, np.int64)
    taps = np.zeros(pooled.shape, np.uint8)
    named: dict[str, Call] = {
        "conv2d": lambda: ops.conv2d(x, weight, bias, padding=1, activation="relu"),
        "conv2d_backward": lambda: ops.conv2d_backward(y, x, weight, padding=1),
        "dense": lambda: ops.dense(row, matrix, bias, activation="relu"),
        "dense_backward": lambda: ops.dense_backward(ones_4, row, matrix),
        "max_pool2d": lambda: ops.max_pool2d(x, 2),
        "max_pool2d_backward": lambda: ops.max_pool2d_backward(pooled, x, 2),
        "max_pool2x2": lambda: ops.max_pool2x2(x),
        "max_pool2x2_backward": lambda: ops.max_pool2x2_backward(pooled, taps, x.shape),
        "avg_pool2d": lambda: ops.avg_pool2d(x, 2),
        "avg_pool2d_backward": lambda: ops.avg_pool2d_backward(pooled, x.shape, 2),
        "pool2d": lambda: ops.pool2d(x, 2),
        "pool2d_backward": lambda: ops.pool2d_backward(pooled, x, 2),
        "global_avg_pool2d": lambda: ops.global_avg_pool2d(x),
        "global_avg_pool2d_backward": lambda: ops.global_avg_pool2d_backward(plane, x.shape),
        "im2col": lambda: ops.im2col(x, 3),
        "col2im": lambda: ops.col2im(columns, 6, 3),
        "activation_backward": lambda: ops.activation_backward(row, row, "relu"),
        "softmax_cross_entropy": lambda: ops.softmax_cross_entropy(row, labels),
        "sgd_update": lambda: ops.sgd_update(bias, bias_gradient, state, 0.1, 0.9),
        "adam_update": lambda: ops.adam_update(bias, bias_gradient, state, second, 0.1, 0.9, 0.999, 1e-7, 1),
        "nadam_update": lambda: ops.nadam_update(
            bias, bias_gradient, state, second, 0.1, 0.9, 0.999, 1e-7, momentum_decay=1.0, momentum_product=1.0, step=1
        ),
        "adagrad_update": lambda: ops.adagrad_update(bias, bias_gradient, second, 0.1, 1e-7),
        "adadelta_update": lambda: ops.adadelta_update(bias, bias_gradient, second, third, 0.1, 0.95, 1e-7),
        "rmsprop_update": lambda: ops.rmsprop_update(
            bias, bias_gradient, second, state, third, 0.1, rho=0.9, momentum=0.9, epsilon=1e-7
        ),
    }
    ones_4, plane = ones(1, 4), ones(1, 2, 1, 1)
    bias_gradient, state, second, third = np.zeros((4, 4), np.float32)
    for name in ("relu", "leaky_relu", "sigmoid", "tanh", "softmax"):
        forward, backward = getattr(ops, name), getattr(ops, f"{name}_backward")
        named[name] = lambda forward=forward: forward(row)  # type: ignore[misc]
        named[f"{name}_backward"] = lambda backward=backward: backward(row, row)  # type: ignore[misc]
    return named


def kernels_of(call: Call) -> Call:
    """Return a call of the kernels that `call` runs, with the arguments it gives them."""
    with Tape() as tape:
        call()
    recorded = tape.calls

    def kernels() -> None:
        for kernel, arguments in recorded:
            kernel(*arguments)

    return kernels


def measure_call(name: str, call: Call, effort: Effort) -> Row:
    """Time one operator and its kernels; the row's keys are those of :data:`CALLS`."""
    seconds, _ = interleave({"call": call, "kernels": kernels_of(call)}, effort)
    beside = 1e6 * (seconds["call"] - seconds["kernels"])
    return {
        "what": name,
        "call": 1e6 * seconds["call"],
        "kernels": 1e6 * seconds["kernels"],
        "figure": beside,
        "target": CALL_TARGET,
        "holds": beside <= CALL_TARGET,
        "unit": "us",
    }


def measure_inference(effort: Effort, threads: int) -> Iterator[Row]:
    """Time LeNet-5 on one image: the model called, its `predict`, and its kernels alone."""
    network = NETWORKS["LeNet-5"]
    batch = Batch.random(network, 1)
    model = FastconvTrainer.build(network)
    contenders: dict[str, Callable[[], Any]] = {
        "model(x)": lambda: model(batch.x),
        "model.predict(x)": lambda: model.predict(batch.x),
        "its kernels alone": kernels_of(lambda: model.infer(batch.x)),
    }
    onnxruntime = {"onnxruntime": lambda: OnnxRuntimePredictor(threads).prepare(network, batch.x)}
    peer, absent = environment.installed(onnxruntime)
    for name, call in peer.items():
        error = float(np.abs(call() - model(batch.x)).max())
        if not error < 1e-4:
            raise ArithmeticError(f"expected {name} to compute what fastconv does ; received a difference of {error:g}")
    seconds, _ = interleave({**contenders, **peer}, effort, threads=threads)
    target = min([INFERENCE_TARGET, *(1e6 * seconds[name] for name in peer)])
    for name, time in seconds.items():
        judged = name.startswith("model")
        figure = 1e6 * time
        yield {
            "what": f"one image, {name}",
            "figure": figure,
            "target": target if judged else None,
            "unit": "us",
            "holds": figure <= target if judged else None,
        }
    for name in absent:
        yield {"what": f"one image, {name} (absent)", "figure": None, "target": None, "unit": "us", "holds": None}


def _stepper() -> Callable[[], object]:
    """Return a step of a fresh model, after its first one."""
    network = NETWORKS["LeNet-5"]
    step = FastconvTrainer().prepare(network, Batch.random(network, STEP_BATCH))
    step()
    return step


def measure_second_step() -> Iterator[Row]:
    """Count what the second training step allocates: Python's memory, and pages touched for the first time."""
    step = _stepper()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        step()
        allocated = (tracemalloc.get_traced_memory()[1] - before) / 1024
    finally:
        tracemalloc.stop()
    yield {
        "what": f"second step of {STEP_BATCH} images, allocated",
        "figure": allocated,
        "target": ALLOCATED_TARGET,
        "unit": "KiB",
        "holds": allocated <= ALLOCATED_TARGET,
    }
    step = _stepper()
    touched = page_faults()
    if touched is None:
        return
    step()
    faults = (page_faults() or 0) - touched
    yield {
        "what": f"second step of {STEP_BATCH} images, page faults",
        "figure": faults,
        "target": FAULTS_TARGET,
        "unit": "pages",
        "holds": faults <= FAULTS_TARGET,
    }


def page_faults() -> int | None:
    """Return how many pages this process has touched for the first time; None where the system does not tell."""
    try:
        resource: Any = importlib.import_module("resource")
    except ImportError:
        return None
    faults: int = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    return faults


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = command.parser("bench.overhead", __doc__)
    command.add_effort(options, rounds=31)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    options = parser().parse_args(arguments)
    environment.relaunch_with_threads(options.threads)
    fastconv.set_num_threads(options.threads)
    run = command.Run(options, ["fastconv"], {})
    run.begin(CALLS)
    for name, call in calls().items():
        run.add(measure_call(name, call, run.effort))
    run.begin(REST)
    # What is allocated first: libraries that load later have page faults of their own.
    for row in (*measure_second_step(), *measure_inference(run.effort, options.threads)):
        run.add(row)
    run.end(f"overhead-{options.threads}")
    targets.print_count([row["holds"] for row in run.rows])


if __name__ == "__main__":
    main()
