"""``python -m bench.kernels``: every convolution of the list against every peer that is installed.

Each case is a shape and a pass. All contenders take turns, and the FMA peak and the memory's speed
are measured in the same rounds, so that shares and ratios hold on a machine that others use too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import command, environment, report, targets
from bench.accuracy import ErrorBound
from bench.peers import Contender, Problem, contenders
from bench.report import Column, Row, geometric_mean, number, percent
from bench.shapes import PASSES, ConvShape, select
from bench.timing import Effort, interleave, memory_bandwidth
from fastconv import _dispatch

COLUMNS = (
    Column("shape", "N,C,H,W,K,R,S,stride,padding", 35, left=True),
    Column("pass", "pass", 11, left=True),
    Column("ms", "ms", 8, number(3)),
    Column("gflops", "GFLOP/s", 7, number(1)),
    Column("peak_share", "peak", 4, percent),
    Column("bandwidth_share", "memory", 6, percent),
    Column("best_peer", "best peer", 19, left=True),
    Column("peer_ms", "its ms", 8, number(3)),
    Column("ratio", "ratio", 6, number(2)),
    Column("target", "target", 14, left=True),
    Column("numpy_ratio", "/numpy", 7, number(1)),
    Column("error", "error", 6, number(2)),
)

WRONG = 100.0
"""A contender whose error is this many times the bound computes something else."""


def measure(
    shape: ConvShape,
    pass_name: str,
    present: dict[str, Contender],
    *,
    dtype: str,
    threads: int,
    effort: Effort,
    bandwidth: Callable[[], float],
) -> Row:
    """Time and check one case; the keys of the row are those of :data:`COLUMNS` and more."""
    problem = Problem.random(shape, dtype)
    bound = ErrorBound(problem, pass_name)
    calls, errors = {}, {}
    for name, contender in present.items():
        call = contender.prepare(problem).get(pass_name)
        if call is None:
            continue
        errors[name] = bound.share(contender.to_numpy(call(), pass_name))
        if not errors[name] < WRONG:
            raise ArithmeticError(
                f"expected {name} to compute {pass_name} of {shape.label} to within the error "
                f"bound ; received a result {errors[name]:.3g} times the bound away"
            )
        calls[name] = call
    del bound
    neighbours = environment.Neighbours()
    probes = {
        "peak": lambda: _dispatch.fma_peak(threads, np.dtype(dtype).char),
        "bandwidth": bandwidth,
    }
    seconds, limits = interleave(calls, effort, threads=threads, probes=probes)
    peers = {name: time for name, time in seconds.items() if name not in ("fastconv", "numpy")}
    best = min(peers, key=peers.__getitem__, default=None)
    own = seconds["fastconv"]
    moved = shape.elements * np.dtype(dtype).itemsize
    least = max(shape.fewest_flops / limits["peak"], moved / limits["bandwidth"])
    row: dict[str, Any] = {
        "shape": shape.label,
        "pass": pass_name,
        "ms": 1e3 * own,
        "gflops": shape.flops / own / 1e9,
        "peak_share": shape.flops / own / limits["peak"],
        "bandwidth_share": moved / own / limits["bandwidth"],
        "best_peer": best,
        "peer_ms": 1e3 * seconds[best] if best else None,
        "ratio": seconds[best] / own if best else None,
        "limit_ratio": seconds[best] / min(own, least) if best else None,
        "numpy_ratio": seconds["numpy"] / own if "numpy" in seconds else None,
        "error": errors["fastconv"],
        "seconds": seconds,
        "errors": errors,
        "fma_peak": limits["peak"],
        "memory_bandwidth": limits["bandwidth"],
        "neighbours": neighbours.share(),
    }
    wanted = targets.of_convolution(shape, pass_name)
    return {**row, "target": targets.cell(wanted, row), "holds": [target.holds(row) for target in wanted]}


def print_summary(rows: Sequence[Row]) -> None:
    """Print the five worst ratios, the geometric means against the best peer, and how many targets hold."""
    verdicts = [verdict for row in rows for verdict in row["holds"]]
    compared = sorted((row for row in rows if row["ratio"]), key=lambda row: float(row["ratio"]))
    if not compared:
        print("\nno peer is installed: no ratios")
        targets.print_count(verdicts)
        return
    print("\nworst five against the best peer")
    for row in compared[:5]:
        print(f"  {row['ratio']:6.2f}  {row['shape']} {row['pass']} (against {row['best_peer']})")
    print("geometric mean of the ratios")
    for name in PASSES:
        ratios = [row["ratio"] for row in compared if row["pass"] == name]
        if ratios:
            print(f"  {geometric_mean(ratios):6.2f}  {name}, {len(ratios)} cases")
    ahead = sum(row["ratio"] >= 1 for row in compared)
    overall = geometric_mean(row["ratio"] for row in compared)
    mean = targets.Target("ratio", targets.MEAN_RATIO)
    print(
        f"  {overall:6.2f}  all; ahead or level in {ahead} of {len(compared)}; "
        f"target {targets.cell([mean], {'ratio': overall})}"
    )
    limit = geometric_mean(row["limit_ratio"] for row in compared)
    print(f"  {limit:6.2f}  if each case ran at the peak or at the copy's speed, Winograd's transforms for nothing")
    targets.print_count([*verdicts, mean.holds({"ratio": overall})])


def plot(path: Path, rows: Sequence[Row], title: str) -> None:
    """Draw the share of peak of fastconv beside the best peer's, a panel for each pass."""
    chosen = {name: [row for row in rows if row["pass"] == name] for name in PASSES}
    chosen = {name: picked for name, picked in chosen.items() if picked}
    shares: dict[str, dict[str, list[float | None]]] = {"fastconv": {}, "best peer": {}}
    for name, picked in chosen.items():
        shares["fastconv"][name] = [100 * row["peak_share"] for row in picked]
        shares["best peer"][name] = [100 * row["peak_share"] / row["ratio"] if row["ratio"] else None for row in picked]
    labels = {name: [str(row["shape"]) for row in picked] for name, picked in chosen.items()}
    report.write_plot(path, title, labels, shares, "percent of the measured FMA peak", mark=100.0)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = command.parser("bench.kernels", __doc__)
    options.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    options.add_argument("--filter", default="", help='words that a case must have, such as "3x3 forward"')
    options.add_argument("--peers", default="", help='only these peers, separated by commas; "fastconv" for none')
    command.add_effort(options)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    options = parser().parse_args(arguments)
    environment.relaunch_with_threads(options.threads)
    cases = select(options.filter)
    if not cases:
        raise SystemExit(f"expected words of a case's name in --filter ; received {options.filter!r}")
    present, absent = contenders(options.threads)
    if options.peers:
        wanted = {"fastconv", *options.peers.split(",")}
        if unknown := wanted - {*present, *absent}:
            names = ", ".join((*present, *absent))
            raise SystemExit(f"expected names among {names} in --peers ; received {', '.join(sorted(unknown))}")
        present = {name: peer for name, peer in present.items() if name in wanted}
    run = command.Run(options, present, absent)
    bandwidth = memory_bandwidth(options.threads)
    run.begin(COLUMNS)
    for case in cases:
        run.add(
            measure(
                *case, present, dtype=options.dtype, threads=options.threads, effort=run.effort, bandwidth=bandwidth
            )
        )
    path = run.end(f"kernels-{options.dtype}-{options.threads}", dtype=options.dtype)
    plot(path.with_suffix(".png"), run.rows, f"Convolutions, {options.dtype}, threads: {options.threads}")
    print_summary(run.rows)


if __name__ == "__main__":
    main()
