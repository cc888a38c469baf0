"""``python -m bench.training``: images a second of whole training steps, against every peer.

A step is forward, loss, backward and the SGD-with-momentum update of one batch that lies in memory.
All contenders start from the same weights, take turns, and must agree on the loss and on how fast
it falls before anyone is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import command, environment, report, targets
from bench.networks import NETWORKS, Batch, Network
from bench.report import Column, Row, geometric_mean, number, percent
from bench.timing import Effort, interleave
from bench.trainers import Step, Trainer, contenders
from fastconv import _dispatch

COLUMNS = (
    Column("network", "network", 15, left=True),
    Column("batch", "batch", 5),
    Column("images_per_second", "images/s", 9, number(0)),
    Column("peak_share", "peak", 4, percent),
    Column("best_peer", "best peer", 19, left=True),
    Column("peer_images_per_second", "its images/s", 12, number(0)),
    Column("ratio", "ratio", 6, number(2)),
    Column("target", "target", 6, left=True),
    Column("numpy_ratio", "/numpy", 7, number(1)),
)

FIRST_LOSS_TOLERANCE = 1e-4
DESCENT_TOLERANCE = 0.05
"""Shares by which float32 losses, and their fall over :data:`CHECKED_STEPS` steps, may differ."""

CHECKED_STEPS = 5


def check_agreement(steps: Mapping[str, Step], what: str) -> None:
    """Raise unless everyone's loss starts and falls as fastconv's does; this also warms them up.

    Examples
    --------
    >>> check_agreement({"fastconv": lambda: 2.0, "peer": lambda: 3.0}, "a network")
    Traceback (most recent call last):
    ArithmeticError: expected peer to train a network as fastconv does (loss 2, change 0) ; \
received loss 3, change 0
    """
    losses = {name: [step() for _ in range(CHECKED_STEPS)] for name, step in steps.items()}
    first, change = losses["fastconv"][0], losses["fastconv"][-1] - losses["fastconv"][0]
    for name, values in losses.items():
        off = abs(values[0] - first), abs(values[-1] - values[0] - change)
        if off[0] > FIRST_LOSS_TOLERANCE * abs(first) or off[1] > DESCENT_TOLERANCE * abs(change):
            raise ArithmeticError(
                f"expected {name} to train {what} as fastconv does "
                f"(loss {first:.6g}, change {change:.3g}) ; "
                f"received loss {values[0]:.6g}, change {values[-1] - values[0]:.3g}"
            )


def measure(
    network: Network,
    batch_size: int,
    present: Mapping[str, Trainer],
    *,
    threads: int,
    effort: Effort,
) -> Row:
    """Time one network at one batch size; the row's keys are those of :data:`COLUMNS` and more."""
    batch = Batch.random(network, batch_size)
    steps = {name: trainer.prepare(network, batch) for name, trainer in present.items()}
    check_agreement(steps, f"{network.name} at batch {batch_size}")
    neighbours = environment.Neighbours()
    probes = {"peak": lambda: _dispatch.fma_peak(threads)}
    seconds, limits = interleave(steps, effort, threads=threads, probes=probes)
    rates = {name: batch_size / time for name, time in seconds.items()}
    peers = {name: rate for name, rate in rates.items() if name not in ("fastconv", "numpy")}
    best = max(peers, key=peers.__getitem__, default=None)
    own = rates["fastconv"]
    row: dict[str, Any] = {
        "network": network.name,
        "batch": batch_size,
        "images_per_second": own,
        "peak_share": own * network.training_flops / limits["peak"],
        "best_peer": best,
        "peer_images_per_second": rates[best] if best else None,
        "ratio": own / rates[best] if best else None,
        "numpy_ratio": own / rates["numpy"] if "numpy" in rates else None,
        "rates": rates,
        "fma_peak": limits["peak"],
        "neighbours": neighbours.share(),
    }
    wanted = targets.of_training(network, batch_size)
    return {**row, "target": targets.cell(wanted, row), "holds": [target.holds(row) for target in wanted]}


def plot(path: Path, rows: Sequence[Row], names: Sequence[str], title: str) -> None:
    """Draw everyone's images a second as multiples of plain NumPy's, a panel for each network."""
    chosen: dict[str, list[Row]] = {}
    for row in rows:
        chosen.setdefault(row["network"], []).append(row)
    labels = {network: [f"batch {row['batch']}" for row in picked] for network, picked in chosen.items()}
    series = {
        name: {
            network: [row["rates"][name] / row["rates"]["numpy"] for row in picked]
            for network, picked in chosen.items()
        }
        for name in names
    }
    report.write_plot(path, title, labels, series, "images a second / plain NumPy's", mark=1.0)


def print_summary(rows: Sequence[Row]) -> None:
    """Print the geometric means of the ratios, and how many targets hold."""
    for key, against in (("ratio", "the best peer"), ("numpy_ratio", "plain NumPy")):
        ratios = [row[key] for row in rows if row[key]]
        if ratios:
            print(f"geometric mean against {against}: {geometric_mean(ratios):.2f}")
    targets.print_count([verdict for row in rows for verdict in row["holds"]])


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = command.parser("bench.training", __doc__)
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
    path = run.end(f"training-{options.threads}")
    plot(path.with_suffix(".png"), run.rows, list(present), f"Training, float32, threads: {options.threads}")
    print_summary(run.rows)


if __name__ == "__main__":
    main()
