"""The computation graph: its gradients against central differences, its table and its picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from fastconv import graph
from fastconv.gradcheck import gradcheck
from fastconv.graph import Node, variable

RNG = np.random.default_rng(2)
A, B = RNG.uniform(0.5, 2, (3, 4)), RNG.uniform(-2, -0.5, (3, 4))
ROW, COLUMN, SQUARE = RNG.standard_normal(4), RNG.standard_normal((3, 1)), RNG.standard_normal((4, 4))

FORMULAS: list[tuple[Callable[..., Node], tuple[Any, ...]]] = [
    (lambda a, b: a + b * 2 - b / a, (A, B)),
    (lambda a, b: 1 + (2 - a) * (3 / b) + -a, (A, B)),
    (lambda a, b: a**3 + b**2 + a**0.5, (A, B)),
    (lambda a, row: a * row + row, (A, ROW)),
    (lambda a, column: (a - column) / (column * column + 1), (A, COLUMN)),
    (lambda a, number: a * number + number, (A, np.float64(0.7))),
    (lambda a, square: a @ square, (A, SQUARE)),
    (lambda a, row: a @ row, (A, ROW)),
    (lambda row, square: row @ square, (ROW, SQUARE)),
    (lambda row: row @ row, (ROW,)),
    (lambda a: SQUARE.T[:3] * a + np.ones(4) - a, (A,)),
    (lambda a: np.ones((2, 3)) @ a, (A,)),
    (lambda a, b: graph.exp(b) + graph.log(a) + graph.sqrt(a) + graph.absolute(b), (A, B)),
    (lambda a, b: graph.tanh(a) * graph.sigmoid(b) + graph.relu(a + b), (A, B)),
    (lambda a, b: graph.maximum(a * 0.3, -b * 0.3), (A, B)),
    (lambda a, b: graph.total(a * b) * graph.mean(a) + graph.total(b), (A, B)),
    (lambda a: a * a * a + a, (A,)),
]


@pytest.mark.parametrize(("formula", "inputs"), FORMULAS)
def test_gradients_are_central_differences(formula: Callable[..., Node], inputs: tuple[Any, ...]) -> None:
    def run(*values: np.ndarray) -> tuple[np.ndarray, Any]:
        nodes = [variable(value, f"x{i}") for i, value in enumerate(values)]
        end = formula(*nodes)

        def backward(grad: np.ndarray) -> list[Any]:
            end.backward(grad)
            return [node.grad for node in nodes]

        return end.value, backward

    assert gradcheck(run, list(inputs), rtol=1e-5, atol=1e-7)


def lecture() -> Node:
    a, b, c = variable(5, "a"), variable(3, "b"), variable(2, "c")
    end = 3 * (a + b * c)
    end.name = "J"
    return end


def test_table_before_and_after_backward() -> None:
    end = lecture()
    assert graph.text(end).splitlines()[-1] == "J     3 * v2        33"
    end.backward()
    assert graph.text(end).splitlines() == [
        "node  operation  value  gradient",
        "a     variable       5         3",
        "b     variable       3         6",
        "c     variable       2         9",
        "v1    b * c          6         3",
        "v2    a + v1        11         3",
        "J     3 * v2        33         1",
    ]
    assert repr(end) == "Node(J: 33, grad=1)"


def test_backward_begins_anew() -> None:
    end = lecture()
    for _ in range(2):
        end.backward()
    before = [node.grad.item() for node in end.parents[1].parents if node.grad is not None]
    assert before == [3, 3]


def test_a_long_chain_needs_no_recursion() -> None:
    x = end = variable(1.0, "x")
    for _ in range(5000):
        end = end + x
    end.backward()
    assert x.grad == 5001


def test_picture_is_svg_with_every_number(tmp_path: Path) -> None:
    end = lecture() * variable([1.0, 2.0], "<d>")
    end.backward([1, 1])
    drawing = graph.picture(end, tmp_path / "graph.svg")
    assert (tmp_path / "graph.svg").read_text(encoding="utf-8") == drawing
    root = ElementTree.fromstring(drawing)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    for wanted in ("a", "v1 = b * c", "J = 3 * v2", "33", "<d>", "[33. 66.]", "9"):
        assert wanted in texts
    boxes = list(root.iter("{http://www.w3.org/2000/svg}rect"))
    assert len(boxes) == 8
    assert len({(box.get("x"), box.get("y")) for box in boxes}) == 8
    assert len(list(root.iter("{http://www.w3.org/2000/svg}line"))) == 7
    for side, corner in (("width", "x"), ("height", "y")):
        assert all(int(box.get(corner, 0)) + int(box.get(side, 0)) < int(root.get(side, 0)) for box in boxes)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: variable([1.0, 2.0], "x").backward(), ValueError, r"a number.*\(2,\).*total"),
        (lambda: variable(1.0, "x").backward([1, 2]), ValueError, r"shape \(\).*\(2,\)"),
        (lambda: variable(1.0, ""), TypeError, "a name"),
        (lambda: variable(1.0, "x") ** variable(2.0, "y"), TypeError, "number as exponent"),
        (lambda: graph.matmul(np.ones((2, 2, 2)), [1.0, 2.0]), ValueError, r"\(2, 2, 2\) and \(2,\)"),
    ],
)
def test_errors_teach(make: Callable[[], Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()
