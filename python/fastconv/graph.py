"""A computation graph to look into: every number that a formula passes, and the gradient that comes back.

For lectures, not for training. A formula of `variable` nodes builds its graph as it is computed; `backward` walks it
from the end (reverse-mode differentiation, Linnainmaa 1970) and leaves at each node the derivative of the result in
it. `text` prints the graph as a table, `picture` draws it.

>>> a, b, c = variable(5, "a"), variable(3, "b"), variable(2, "c")
>>> J = 3 * (a + b * c)
>>> J.backward()
>>> print(text(J))
node  operation  value  gradient
a     variable       5         3
b     variable       3         6
c     variable       2         9
v1    b * c          6         3
v2    a + v1        11         3
v3    3 * v2        33         1
"""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._validation import Array

Rule = Callable[[Array], "tuple[Array | None, ...]"]
"""From the gradient of a node to those of its parents."""

__all__ = [
    "Node",
    "absolute",
    "exp",
    "log",
    "matmul",
    "maximum",
    "mean",
    "picture",
    "relu",
    "sigmoid",
    "sqrt",
    "tanh",
    "text",
    "total",
    "variable",
]


class Node:
    """A number or an array in a formula.

    Made by `variable`, by arithmetic (``+ - * / ** @``, with numbers and arrays on either side) and by the functions
    of this module.

    Attributes
    ----------
    value : ndarray, float64
    grad : ndarray or None
        The derivative in this node of what `backward` was called on; None before.
    name : str
        What it is called in tables and pictures; empty for ``v1``, ``v2`` and so on.
    """

    __array_ufunc__ = None  # NumPy leaves `array + node` to the node

    def __init__(
        self, value: ArrayLike, operation: str, parents: Sequence[Node] = (), rule: Rule | None = None
    ) -> None:
        self.value = np.array(value, dtype=np.float64)
        self.grad: Array | None = None
        self.name = ""
        self.operation = operation
        self.parents = tuple(parents)
        self._rule = rule

    def __repr__(self) -> str:
        """Name, value and gradient."""
        grad = "" if self.grad is None else f", grad={_figure(self.grad)}"
        return f"Node({self.name or self.operation}: {_figure(self.value)}{grad})"

    def backward(self, grad: ArrayLike | None = None) -> None:
        """Leave in `grad` of every node below the derivative of this one.

        Parameters
        ----------
        grad : array_like, optional
            What to multiply from the left; 1 for a number.

        Raises
        ------
        ValueError
            Without `grad` where this node is no number, or where `grad` has another shape.
        """
        if grad is None and self.value.size != 1:
            raise ValueError(
                f"expected a number to differentiate; received shape {self.value.shape}: take total(...) or mean(...) "
                "of it, or pass grad"
            )
        start = np.ones_like(self.value) if grad is None else np.asarray(grad, np.float64)
        if start.shape != self.value.shape:
            raise ValueError(f"expected grad of shape {self.value.shape}; received {start.shape}")
        nodes = _in_order(self)
        for node in nodes:
            node.grad = np.zeros_like(node.value)
        self.grad = start.copy()
        for node in reversed(nodes):
            if node._rule is None or node.grad is None:
                continue
            for parent, part in zip(node.parents, node._rule(node.grad), strict=True):
                if part is not None and parent.grad is not None:
                    parent.grad += _as_shaped(part, parent.value.shape)

    def __add__(self, other: Any) -> Node:
        """Return the sum."""
        a, b = _node(self), _node(other)
        return Node(a.value + b.value, "{} + {}", (a, b), lambda g: (g, g))

    def __sub__(self, other: Any) -> Node:
        """Return the difference."""
        a, b = _node(self), _node(other)
        return Node(a.value - b.value, "{} - {}", (a, b), lambda g: (g, -g))

    def __mul__(self, other: Any) -> Node:
        """Return the product, element by element."""
        a, b = _node(self), _node(other)
        return Node(a.value * b.value, "{} * {}", (a, b), lambda g: (g * b.value, g * a.value))

    def __truediv__(self, other: Any) -> Node:
        """Return the quotient."""
        a, b = _node(self), _node(other)
        return Node(a.value / b.value, "{} / {}", (a, b), lambda g: (g / b.value, -g * a.value / b.value**2))

    def __pow__(self, exponent: float) -> Node:
        """Return the power of a constant exponent."""
        if isinstance(exponent, Node) or not np.isscalar(exponent):
            raise TypeError(f"expected a number as exponent; received {exponent!r}")
        n = float(exponent)  # type: ignore[arg-type]
        return Node(self.value**n, f"{{}}^{n:g}", (self,), lambda g: (g * n * self.value ** (n - 1),))

    def __neg__(self) -> Node:
        """Return minus this."""
        return Node(-self.value, "-{}", (self,), lambda g: (-g,))

    def __matmul__(self, other: Any) -> Node:
        """Return the matrix product."""
        return matmul(self, other)

    def __radd__(self, other: Any) -> Node:
        """Return the sum with a constant."""
        return _node(other) + self

    def __rsub__(self, other: Any) -> Node:
        """Return the difference from a constant."""
        return _node(other) - self

    def __rmul__(self, other: Any) -> Node:
        """Return the product with a constant."""
        return _node(other) * self

    def __rtruediv__(self, other: Any) -> Node:
        """Return a constant over this."""
        return _node(other) / self

    def __rmatmul__(self, other: Any) -> Node:
        """Return the matrix product of a constant with this."""
        return matmul(other, self)


def variable(value: ArrayLike, name: str) -> Node:
    """Return a node to differentiate in.

    Parameters
    ----------
    value : array_like
        Taken as float64.
    name : str

    Examples
    --------
    >>> x = variable([1.0, 2.0], "x")
    >>> total(x * x).backward()
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"expected a name for the variable; received {name!r}")
    node = Node(value, "variable")
    node.name = name
    return node


def _node(value: Any) -> Node:
    return value if isinstance(value, Node) else Node(value, "constant")


def _function(name: str, value: Any, compute: Callable[[Array], Array], slope: Callable[[Array, Array], Array]) -> Node:
    """Return a node of a function of each element; `slope` is its derivative from x and y."""
    x = _node(value)
    y = compute(x.value)
    return Node(y, f"{name}({{}})", (x,), lambda g: (g * slope(x.value, y),))


def exp(x: Any) -> Node:
    """Return e to the power x."""
    return _function("exp", x, np.exp, lambda x, y: y)


def log(x: Any) -> Node:
    """Return the natural logarithm."""
    return _function("log", x, np.log, lambda x, y: 1 / x)


def sqrt(x: Any) -> Node:
    """Return the square root."""
    return _function("sqrt", x, np.sqrt, lambda x, y: 0.5 / y)


def absolute(x: Any) -> Node:
    """Return the size; its derivative at 0 is taken for 0."""
    return _function("abs", x, np.abs, lambda x, y: np.sign(x))


def tanh(x: Any) -> Node:
    """Return the hyperbolic tangent, whose derivative is ``1 - y^2``."""
    return _function("tanh", x, np.tanh, lambda x, y: 1 - y**2)


def sigmoid(x: Any) -> Node:
    """Return ``1 / (1 + exp(-x))``, whose derivative is ``y (1 - y)``."""
    return _function("sigmoid", x, lambda x: 0.5 * (1 + np.tanh(0.5 * x)), lambda x, y: y * (1 - y))


def relu(x: Any) -> Node:
    """Return the larger of x and 0; its derivative at 0 is taken for 0."""
    return _function("relu", x, lambda x: np.maximum(x, 0), lambda x, y: (x > 0).astype(np.float64))


def maximum(a: Any, b: Any) -> Node:
    """Return the larger of two, element by element; of equals the first takes the gradient."""
    first, second = _node(a), _node(b)
    won = first.value >= second.value
    return Node(np.where(won, first.value, second.value), "max({}, {})", (first, second), lambda g: (g * won, g * ~won))


def total(x: Any) -> Node:
    """Return the sum of all elements."""
    node = _node(x)
    return Node(node.value.sum(), "sum({})", (node,), lambda g: (np.broadcast_to(g, node.value.shape),))


def mean(x: Any) -> Node:
    """Return the mean of all elements."""
    node = _node(x)
    size = node.value.size
    return Node(node.value.mean(), "mean({})", (node,), lambda g: (np.broadcast_to(g / size, node.value.shape),))


def matmul(a: Any, b: Any) -> Node:
    """Return the matrix product of two nodes of one or two axes.

    Raises
    ------
    ValueError
        If they have other numbers of axes.
    """
    first, second = _node(a), _node(b)
    if first.value.ndim not in (1, 2) or second.value.ndim not in (1, 2):
        raise ValueError(f"expected vectors or matrices; received shapes {first.value.shape} and {second.value.shape}")

    def rule(g: Array) -> tuple[Array, Array]:
        rows = np.atleast_2d(first.value)
        columns = second.value if second.value.ndim == 2 else second.value[:, np.newaxis]
        g = g.reshape(len(rows), columns.shape[1])
        return (g @ columns.T).reshape(first.value.shape), (rows.T @ g).reshape(second.value.shape)

    return Node(first.value @ second.value, "{} @ {}", (first, second), rule)


def _as_shaped(part: Array, shape: tuple[int, ...]) -> Array:
    """Add up over the axes along which a value of `shape` was repeated."""
    part = part.sum(axis=tuple(range(part.ndim - len(shape)))) if part.ndim > len(shape) else part
    repeated = tuple(axis for axis, size in enumerate(shape) if size == 1 and part.shape[axis] != 1)
    return part.sum(axis=repeated, keepdims=True) if repeated else part


def _in_order(end: Node) -> list[Node]:
    """Return all nodes below, each after its parents."""
    order: list[Node] = []
    seen: set[int] = set()
    stack = [(end, False)]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack += [(parent, False) for parent in reversed(node.parents)]
    return order


def _figure(value: Array) -> str:
    if value.size == 1:
        return f"{value.item():.6g}"
    return np.array2string(value, precision=4, separator=" ", threshold=16, edgeitems=2).replace("\n", "")


def _rows(end: Node) -> tuple[list[Node], dict[int, str], list[tuple[str, str, str, str]]]:
    """Return the nodes to show, variables first, what each is called, and the cells of the table."""
    nodes = _in_order(end)
    shown = [n for n in nodes if n.operation == "variable"] + [n for n in nodes if n.parents]
    names: dict[int, str] = {id(n): _figure(n.value) for n in nodes if n.operation == "constant"}
    for node in shown:
        number = 1 + sum(bool(n.parents) for n in shown[: shown.index(node)])
        names[id(node)] = node.name or f"v{number}"
    cells = []
    for node in shown:
        operation = node.operation.format(*(names[id(parent)] for parent in node.parents))
        cells.append((names[id(node)], operation, _figure(node.value), "" if node.grad is None else _figure(node.grad)))
    return shown, names, cells


def text(end: Node) -> str:
    """Return the graph below a node as a table: name, operation, value and, after `backward`, gradient.

    Parameters
    ----------
    end : Node
    """
    rows = [("node", "operation", "value", "gradient"), *_rows(end)[2]]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = (
        f"{name:<{widths[0]}}  {operation:<{widths[1]}}  {value:>{widths[2]}}  {grad:>{widths[3]}}"
        for name, operation, value, grad in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def picture(end: Node, path: str | os.PathLike[str] | None = None) -> str:
    """Draw the graph below a node: values in black, gradients in red, from left to right.

    Parameters
    ----------
    end : Node
    path : str or path-like, optional
        Where to write the drawing.

    Returns
    -------
    str
        The drawing, as SVG.

    Examples
    --------
    >>> picture(variable(1, "x") * 2).startswith("<svg")
    True
    """
    shown, _, cells = _rows(end)
    depth: dict[int, int] = {}
    for node in _in_order(end):
        before = (depth[id(parent)] for parent in node.parents if parent.operation != "constant")
        depth[id(node)] = 1 + max(before, default=-1)
    width = 40 + 8 * max(len(text) for cell in cells for text in (f"{cell[0]} = {cell[1]}", cell[2], cell[3]))
    height, across, down = 64, width + 48, 84
    places: dict[int, tuple[int, int]] = {}
    filled: dict[int, int] = {}
    for node in shown:
        column = depth[id(node)]
        filled[column] = filled.get(column, 0) + 1
        places[id(node)] = (12 + column * across, 12 + (filled[column] - 1) * down)
    parts: list[str] = []
    for node in shown:
        x, y = places[id(node)]
        for parent in node.parents:
            if id(parent) in places:
                px, py = places[id(parent)]
                parts.append(
                    f'<line x1="{px + width}" y1="{py + height // 2}" x2="{x}" y2="{y + height // 2}" stroke="#888" '
                    'marker-end="url(#arrow)"/>'
                )
    for node, (name, operation, value, grad) in zip(shown, cells, strict=True):
        x, y = places[id(node)]
        title = name if operation == "variable" else f"{name} = {operation}"
        parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="#f6f6f6" stroke="#444"/>')
        for line, (content, colour) in enumerate(((title, "#444"), (value, "#000"), (grad, "#c00"))):
            parts.append(
                f'<text x="{x + width // 2}" y="{y + 19 + 18 * line}" text-anchor="middle" fill="{colour}">'
                f"{html.escape(content)}</text>"
            )
    total_width = 24 + width + max(depth.values()) * across
    total_height = 24 + height + (max(filled.values()) - 1) * down
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total_width}" height="{total_height}" '
        'font-family="monospace" font-size="13"><defs><marker id="arrow" markerWidth="8" markerHeight="8" refX="8" '
        'refY="4" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#888"/></marker></defs>' + "".join(parts) + "</svg>\n"
    )
    if path is not None:
        Path(path).write_text(drawing, encoding="utf-8")
    return drawing
