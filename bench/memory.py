"""``python -m bench.memory``: the peak memory of training steps, against every peer. Linux alone.

Each contender trains in a process of its own. What counts is by how much its resident memory rises, at most,
above what it holds once libraries, model and data are there: the results that a step keeps, gradients,
momentum, workspace.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import command, environment, report, targets
from bench.networks import NETWORKS, Batch
from bench.report import Column, Row, number
from bench.trainers import contenders

COLUMNS = (
    Column("name", "contender", 19, left=True),
    Column("megabytes", "MB", 7, number(1)),
    Column("share", "of PyTorch's", 12, number(2)),
    Column("target", "target", 6, left=True),
)

STEPS = 4
"""The second step may still allocate what the first one found out."""

PEAK = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")


def peak_memory() -> int:
    """Return the most bytes that this process has held.

    Examples
    --------
    >>> peak_memory() > 1_000_000
    True
    """
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return 1024 * int(lines["VmHWM"].split()[0])


def rise(name: str, network: str, batch_size: int, threads: int) -> int:
    """Train here, and return by how many bytes the peak rose."""
    spec = NETWORKS[network]
    step = contenders(threads)[0][name].prepare(spec, Batch.random(spec, batch_size))
    with contextlib.suppress(OSError):  # then importing counts as held
        PEAK.write_text("5")  # the peak is now what is held
    before = peak_memory()
    for _ in range(STEPS):
        step()
    return peak_memory() - before


def measure(name: str, options: argparse.Namespace) -> float:
    """Megabytes by which a contender's memory rises in a process of its own."""
    arguments = (*("--network", options.network, "--batch-size", options.batch_size), "--threads", options.threads)
    command = [sys.executable, "-m", "bench.memory", "--contender", name, *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(f"expected {name} to train {options.network} ; received\n{finished.stderr}")
    return int(finished.stdout.split()[-1]) / 1e6


def compare(megabytes: dict[str, float]) -> list[Row]:
    """Rows of the table; the target is fastconv's.

    Examples
    --------
    >>> [row["target"] for row in compare({"fastconv": 3.0, "torch": 10.0, "torch channels_last": 8.0})]
    ['0.5 ok', None, None]
    """
    torch = min((used for name, used in megabytes.items() if name.startswith("torch")), default=None)
    rows: list[Row] = []
    for name, used in megabytes.items():
        row: dict[str, Any] = {"name": name, "megabytes": used, "share": used / torch if torch else None}
        wanted = [targets.Target("share", targets.MEMORY_SHARE, at_most=True)] if name == "fastconv" else []
        holds = [target.holds(row) for target in wanted]
        rows.append({**row, "target": targets.cell(wanted, row), "holds": holds})
    return rows


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = command.parser("bench.memory", __doc__)
    options.add_argument("--network", choices=NETWORKS, default="CIFAR CNN")
    options.add_argument("--batch-size", type=int, default=128)
    options.add_argument("--contender", help="train as this one, here, and print bytes alone")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    options = parser().parse_args(arguments)
    if not STATUS.exists():
        raise SystemExit(f"expected a system that tells a process's memory in {STATUS} ; received {sys.platform}")
    environment.relaunch_with_threads(options.threads)
    if options.contender:
        print(rise(options.contender, options.network, options.batch_size, options.threads))
        return
    present, absent = contenders(options.threads)
    conditions = environment.describe(options.threads)
    environment.print_conditions(conditions, present, absent)
    print(f"{options.network}, batch {options.batch_size}\n")
    rows = compare({name: measure(name, options) for name in present})
    print(report.header(COLUMNS))
    for row in rows:
        print(report.line(COLUMNS, row))
    print()
    report.write_json(options.output / f"memory-{options.threads}.json", conditions, rows)
    targets.print_count([verdict for row in rows for verdict in row["holds"]])


if __name__ == "__main__":
    main()
