"""Inference on a small batch and steps of training, without the Python between their kernels.

A pass of LeNet over one image is seven kernels of about a microsecond, and as much Python around each of them. So a
pass over a batch of a new shape is recorded: its kernels, and the arrays that they read and write. The next one
copies its input into the recorded one and runs those kernels again, on the same arrays. In training, so is the way
back; the loss and the optimizer are called as ever.

What was recorded holds until an attribute of any layer or parameter is set, or all plans are forgotten; numbers
written in place are read where they lie. Only layers that say `only_kernels` are recorded: their inference is kernels
and views, whatever the numbers; what is not so in training says it (`not_a_kernel`). A recording serves one call at a
time, so threads that share a model make one each.

A larger batch of such layers is computed in memory that earlier ones used: fresh memory may cost as much as the
arithmetic.
"""

from __future__ import annotations

import itertools
import math
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from .._call import Arena, Tape, generation, is_open
from .._threads import get_num_threads, num_threads
from .._validation import Array

LARGEST = 2**20
"""Bytes of the input and all results of a pass: beyond, its kernels take so long that nothing is gained."""

SMALL = 80_000_000
"""Multiply-adds of a pass below which it stays on one thread: to wake another may take as long as half of it."""

KEPT = 16
"""Recordings that a stack of layers keeps."""

KEPT_MEMORY = 2**26
"""Bytes of memory for larger batches that a stack of layers keeps, at most."""

_versions = itertools.count(1)
_version = 0


def forget() -> None:
    """Let no recording hold any longer: something that passes rest on has changed."""
    global _version
    _version = next(_versions)


class Watched:
    """A class on whose attributes passes rest."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, and let no recording hold any longer."""
        object.__setattr__(self, name, value)
        forget()


class Pass(Protocol):
    """What is recorded: layers in a row."""

    layers: list[Any]

    def infer(self, x: Array) -> Array:
        """Return the output for `x`, layer by layer."""

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """Return the output for `x`, and the other half of the pass."""


class Recording:
    """What was found out of a stack of layers, and whether it still holds."""

    def __init__(self, stack: Pass) -> None:
        self._version, self._generation = _version, generation()
        self._lists: list[tuple[list[Any], list[Any]]] = []
        self._possible = _collect(stack, self._lists)
        self._work = _work(stack.layers) if self._possible else 0

    def _threads(self, x: Array) -> AbstractContextManager[None]:
        """Open a block in which a small pass over the images of `x` has one thread."""
        return num_threads(1 if self._possible and len(x) * self._work < SMALL else get_num_threads())

    def is_current(self) -> bool:
        """Return whether a pass would still make the same calls."""
        unchanged = self._version == _version and self._generation == generation()
        return unchanged and all(now == then for now, then in self._lists)


class Replay(Recording):
    """One pass, and its recording if it can have one."""

    def __init__(self, stack: Pass, x: Array) -> None:
        super().__init__(stack)
        self._calls: list[Any] | None = None
        if self._possible:
            self._x = x.copy()
            with self._threads(x), Tape() as tape:
                self._y = stack.infer(self._x)
            if tape.complete and x.nbytes + tape.size <= LARGEST:
                self._calls = tape.calls

    @property
    def records(self) -> bool:
        """Whether there is anything to run again."""
        return self._calls is not None

    def __call__(self, x: Array) -> Array:
        """Return the output for `x`, of the recorded shape."""
        assert self._calls is not None
        self._x[...] = x
        for kernel, arguments in self._calls:
            kernel(*arguments)
        return self._y.copy()


def _collect(stack: Pass, lists: list[tuple[list[Any], list[Any]]]) -> bool:
    """Append the lists of layers that a pass walks, each with a copy; False if a layer is not only kernels."""
    lists.append((stack.layers, stack.layers.copy()))
    for layer in stack.layers:
        # The class itself must say so: one derived from it may do anything.
        if not vars(type(layer)).get("only_kernels", False):
            return False
        if hasattr(layer, "layers") and not _collect(layer, lists):
            return False
    return True


class TrainingPass(Recording):
    """One pass of training and back, and its recording if it can have one.

    Both halves run in one arena, always the same: results lie where the recorded ones lay.
    """

    _x: Array
    _y: Array
    _gradient: Array

    def __init__(self, stack: Pass) -> None:
        super().__init__(stack)
        self._work *= 3  # the way back is twice as long
        self._half: Any = None
        self._forward: list[Any] | None = None
        self._backward: list[Any] | None = None

    def forward(self, stack: Pass, x: Array, arena: Arena) -> Array:
        """Return the output for `x`, in the open arena. The stack is not kept: it may hold this pass."""
        if self._forward is not None and self._backward is not None:
            self._x[...] = x
            for kernel, arguments in self._forward:
                kernel(*arguments)
            return self._y
        if self._possible:
            self._x = x = x.copy()
            arena.record()
        with self._threads(x):
            self._y, self._half = stack.forward(x, True)
        self._forward = arena.recorded()
        return self._y

    def backward(self, gradient: Array, arena: Arena) -> None:
        """Write the parameters' gradients, from that of the output."""
        half, self._half = self._half, None
        if half is None and self._backward is not None:
            self._gradient[...] = gradient
            for kernel, arguments in self._backward:
                kernel(*arguments)
            return
        if self._forward is not None:
            self._gradient = gradient = gradient.copy()
            arena.record()
        with self._threads(gradient):
            half(gradient, False)
        self._backward = arena.recorded()
        self._possible = self._backward is not None


def _work(layers: list[Any]) -> int:
    """Return the multiply-adds of a pass over one image, or what takes as long."""
    work = 0
    for layer in layers:
        if hasattr(layer, "layers"):
            work += _work(layer.layers)
        elif layer.output_shape is not None:
            pixels = math.prod(layer.output_shape[1:])
            work += 8 * math.prod(layer.output_shape) + sum(p.value.size * pixels for p in layer.parameters)
    return work


class Replays:
    """The recorded passes of one stack of layers, by the shape of the input and the number of threads."""

    def __init__(self) -> None:
        self._kept: dict[Any, Replay] = {}
        self._arenas: list[Arena] = []

    def __reduce__(self) -> tuple[type[Replays], tuple[()]]:
        """Copy no recording: it holds the arrays of its own model."""
        return Replays, ()

    def compute(self, stack: Pass, x: Array, dtype: np.dtype[Any]) -> Array:
        """Return the output for `x`, from a recording where there can be one."""
        if type(x) is not np.ndarray or x.dtype is not dtype or is_open():
            return stack.infer(x)
        if x.nbytes > LARGEST:
            return self._infer(stack, x)
        kept = self._kept
        key = x.shape, get_num_threads()
        replay = kept.pop(key, None)  # it is this call's own until it is put back
        if replay is None or not replay.is_current():
            replay = Replay(stack, x)
            if len(kept) >= KEPT:
                kept.clear()
        y = replay(x) if replay.records else self._infer(stack, x)
        kept[key] = replay
        return y

    def _infer(self, stack: Pass, x: Array) -> Array:
        """Return the output for `x`, layer by layer, in memory that an earlier pass used."""
        if not _collect(stack, []):
            return stack.infer(x)
        arena = self._arenas.pop() if self._arenas else Arena()  # this call's own until it is put back
        with arena:
            y = stack.infer(x)
        y = y.copy()
        if arena.size <= KEPT_MEMORY and not self._arenas:
            self._arenas.append(arena)
        return y
