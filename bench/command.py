"""What all benchmarks do alike: their options, the table as it grows, and the file at the end."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

from bench import environment, report
from bench.report import Column, Row
from bench.timing import QUICK, Effort


def parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """Make the parser of a benchmark's command line, with the options that all of them have.

    Examples
    --------
    >>> parser("bench.kernels", None).parse_args(["--threads", "2"]).threads
    2
    """
    command = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    command.add_argument("--threads", type=int, default=1, help="threads of everyone (1)")
    command.add_argument("--output", type=Path, default=environment.RESULTS, help="folder")
    return command


def add_effort(
    command: argparse.ArgumentParser, *, rounds: int = Effort.rounds, seconds: float = Effort.seconds
) -> None:
    """Add the options that say how long to measure.

    Parameters
    ----------
    command : ArgumentParser
    rounds : int
        Samples of each contender, by default.
    seconds : float
        Time of each contender in a case, by default.
    """
    command.add_argument("--quick", action="store_true", help="three short rounds: no figures")
    command.add_argument("--rounds", type=int, default=rounds, help="samples of each")
    command.add_argument("--seconds", type=float, default=seconds, help="limit of each")
    command.add_argument("--fastest", action="store_true", help="compare fastest samples, not medians: busy machine")


class Run:
    """A benchmark under way: says under which conditions, shows each row, and writes all of them at the end.

    Parameters
    ----------
    options : Namespace
        What the command line says.
    present : iterable of str
        Who takes part.
    absent : mapping of str to str
        Who does not, and why.

    Attributes
    ----------
    effort : Effort
    rows : list of Row
    """

    def __init__(self, options: argparse.Namespace, present: Iterable[str], absent: Mapping[str, str]) -> None:
        self.output: Path = options.output
        self.conditions = environment.describe(options.threads)
        environment.print_conditions(self.conditions, present, absent)
        statistic = min if options.fastest else median
        self.effort = QUICK if options.quick else Effort(options.rounds, options.seconds, statistic)
        self.rows: list[Row] = []
        self._neighbours = environment.Neighbours()
        self._columns: Sequence[Column] = ()

    def begin(self, columns: Sequence[Column]) -> None:
        """Begin a table."""
        self._columns = columns
        print(("\n" if self.rows else "") + report.header(columns))

    def add(self, row: Row) -> None:
        """Show a row."""
        print(report.line(self._columns, row), flush=True)
        self.rows.append(row)

    def end(self, stem: str, **conditions: object) -> Path:
        """Say how busy the machine was and write the rows to ``stem``.json; return the path without the suffix."""
        print()
        self._neighbours.warn()
        path = self.output / stem
        described = {**self.conditions, "statistic": self.effort.statistic.__name__, **conditions}
        report.write_json(path.with_suffix(".json"), described, self.rows)
        return path
