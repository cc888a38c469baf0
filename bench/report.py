"""How results leave: a table as it grows on standard output, then a JSON file and a plot."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
"""One result by column name; ``None`` where a figure does not apply."""


@dataclass(frozen=True)
class Column:
    """A column of a table: the row's key, its title, how its values are written, and its width."""

    key: str
    title: str
    width: int
    write: Callable[[Any], str] = str
    left: bool = False

    def cell(self, text: str) -> str:
        """Pad ``text`` to the column's width."""
        return text.ljust(self.width) if self.left else text.rjust(self.width)


def number(digits: int) -> Callable[[Any], str]:
    """Writer of a number with ``digits`` decimals.

    Examples
    --------
    >>> number(2)(3.14159), number(0)(1234567.0)
    ('3.14', '1,234,567')
    """
    return lambda value: f"{value:,.{digits}f}"


def percent(value: float) -> str:
    """Write a share as a percentage.

    Examples
    --------
    >>> percent(0.714)
    '71%'
    """
    return f"{100 * value:.0f}%"


def header(columns: Sequence[Column]) -> str:
    """Write the table's titles, underlined."""
    titles = "  ".join(column.cell(column.title) for column in columns)
    return f"{titles}\n{'-' * len(titles)}"


def line(columns: Sequence[Column], row: Row) -> str:
    """Write one row of the table; a figure that does not apply is a dash.

    Examples
    --------
    >>> columns = [Column("name", "name", 6, left=True), Column("ms", "ms", 5, number(1))]
    >>> print(header(columns)); print(line(columns, {"name": "conv", "ms": None}))
    name       ms
    -------------
    conv        -
    """
    cells = []
    for column in columns:
        value = row[column.key]
        cells.append(column.cell("-" if value is None else column.write(value)))
    return "  ".join(cells)


def geometric_mean(values: Iterable[float]) -> float:
    """Return the mean for ratios: exp of the mean of the logarithms.

    Examples
    --------
    >>> round(geometric_mean([2.0, 8.0]), 12)
    4.0
    """
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))


def write_json(path: Path, environment: Row, rows: Sequence[Row]) -> None:
    """Write the rows and the conditions under which they were measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"environment": environment, "results": list(rows)}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
    print(f"written: {path}")


def write_plot(
    path: Path,
    title: str,
    groups: Mapping[str, Sequence[str]],
    series: Mapping[str, Mapping[str, Sequence[float | None]]],
    axis: str,
    mark: float | None = None,
) -> None:
    """Draw horizontal bars, a panel for each group, or say that Matplotlib is missing.

    Parameters
    ----------
    path : Path
        File to write; its suffix chooses the format.
    title, axis : str
        What is measured and in which unit.
    groups : mapping of str to sequence of str
        For each panel the labels of its bars.
    series : mapping of str to mapping of str to sequence of float or None
        For each contender and panel its values, in the order of the labels.
    mark : float, optional
        Where to draw a line to compare with.
    """
    try:
        matplotlib = importlib.import_module("matplotlib")
        matplotlib.use("Agg")
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        print('no plot: Matplotlib is missing; pip install "fastconv[bench]"')
        return
    tallest = max(len(labels) for labels in groups.values())
    figure, panels = pyplot.subplots(
        1,
        len(groups),
        squeeze=False,
        figsize=(5 * len(groups) + 2, 1.5 + 0.14 * tallest * (len(series) + 1)),
        layout="constrained",
    )
    thickness = 0.8 / len(series)
    for panel, (group, labels) in zip(panels[0], groups.items(), strict=True):
        for index, (name, values) in enumerate(series.items()):
            heights = [value or 0.0 for value in values[group]]
            places = [place + index * thickness for place in range(len(labels))]
            panel.barh(places, heights, thickness, label=name)
        middle = (len(series) - 1) * thickness / 2
        panel.set_yticks([place + middle for place in range(len(labels))], labels, fontsize=7)
        panel.invert_yaxis()
        panel.set_title(group)
        panel.set_xlabel(axis)
        if mark is not None:
            panel.axvline(mark, color="black", linewidth=0.8)
    panels[0][0].legend(fontsize=8)
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    print(f"written: {path}")
