"""How numbers walk through layers in a row, and gradients back.

The layers that come first and go by images are computed a chunk of images at a time (see `chunks`), the others on
the whole batch. The parameters' gradients are then sums over the chunks, always in the same order.

Results that no backward pass needs take turns in memory, where all layers are of this package: another's may hold on
to what it was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from .._call import begin_turns, empty, end_turns, may_overwrite, next_turn, run
from .._validation import Array
from .base import Backward, Layer
from .chunks import cut
from .fused import steps


def infer(layers: Sequence[Layer], x: Array) -> Array:
    """Return the output for `x`; each layer's input is dropped as soon as it is used."""
    count, chunks = cut(layers, x)
    y: Array | None = None
    for chunk in chunks:
        y = _put(y, _infer(layers[:count], x[chunk], outlives=False), chunk, len(x))
    return _infer(layers[count:], x if y is None else y)


def _infer(layers: Sequence[Layer], x: Array, *, outlives: bool = True) -> Array:
    """Return the output; without `outlives` it may be overwritten by the next chain."""
    turns = _keep_nothing(layers) and begin_turns()
    for layer in layers:
        if turns:
            next_turn(x)
        x = layer(x)
    if turns:
        end_turns()
    return _kept(x) if turns and outlives else x


def forward(layers: Sequence[Layer], x: Array, training: bool) -> tuple[Array, Backward]:
    """Return the output for `x`, and the other half of the pass.

    Without `input_grad` that stops at the first layer that learns: nothing below needs it.
    """
    count, chunks = cut(layers, x)
    if not chunks:
        return _forward(layers, x, training)
    first, rest = layers[:count], layers[count:]
    middle, first_backward = _forward_in_chunks(first, chunks, x, training)
    y, rest_backward = _forward(rest, middle, training)

    def backward(grad_y: Array, input_grad: bool = True) -> Array | None:
        goes_on = input_grad or any(layer.learns for layer in first)
        grad = rest_backward(grad_y, goes_on)
        return first_backward(grad, input_grad) if goes_on else None

    return y, backward


def _forward(layers: Sequence[Layer], x: Array, training: bool) -> tuple[Array, Backward]:
    walked: Sequence[Any] = steps(layers) if training else layers
    halves: list[Backward] = []
    for step in walked:
        x, half = step.forward(x, training)
        halves.append(half)

    def backward(grad_y: Array, input_grad: bool = True) -> Array | None:
        last = 0 if input_grad else next((i for i, step in enumerate(walked) if step.learns), len(walked))
        turns = _keep_nothing(layers) and begin_turns()  # a gradient is done with once the next one is there
        for half in reversed(halves[last + 1 :]):
            if turns:
                next_turn(grad_y)
            grad_y = half(grad_y)
        if turns:
            next_turn(grad_y)
        grad_x = halves[last](grad_y, input_grad) if last < len(halves) else grad_y
        if turns:
            end_turns()
        return _kept(grad_x) if turns and input_grad else grad_x

    return x, backward


def _forward_in_chunks(
    layers: Sequence[Layer], chunks: Sequence[slice], x: Array, training: bool
) -> tuple[Array, Backward]:
    halves: list[Backward] = []
    y: Array | None = None
    for chunk in chunks:
        part, half = _forward(layers, x[chunk], training)
        halves.append(half)
        y = _put(y, part, chunk, len(x))
    assert y is not None

    def backward(grad_y: Array, input_grad: bool = True) -> Array | None:
        gradients = [p.grad for layer in layers for p in layer.parameters if p.trainable]
        sums = [empty(gradient.shape, gradient.dtype) for gradient in gradients]
        grad_x: Array | None = None
        for chunk, half in zip(chunks, halves, strict=True):
            part = half(grad_y[chunk], input_grad)
            if input_grad:
                grad_x = _put(grad_x, part, chunk, len(x))
            for gradient, total in zip(gradients, sums, strict=True):
                if chunk is chunks[0]:
                    run(np.copyto, total, gradient)
                else:
                    run(np.add, total, gradient, total if chunk is not chunks[-1] else gradient)
        return grad_x

    return y, backward


def _kept(last: Array) -> Array:
    """Return the last result of a chain where it lives as long as the step: not where the next chain takes turns."""
    if not may_overwrite(last):
        return last
    kept = empty(last.shape, last.dtype)
    run(np.copyto, kept, last)
    return kept


def _put(whole: Array | None, part: Array, chunk: slice, count: int) -> Array:
    """Put a chunk's result into that of the batch, which is made for the first of them."""
    if whole is None:
        whole = empty((count, *part.shape[1:]), part.dtype)
    run(np.copyto, whole[chunk], part)
    return whole


def _keep_nothing(layers: Sequence[Layer]) -> bool:
    """Whether no layer can reach what another one was given: those of this package cannot."""
    return all(map(_is_ours, map(type, layers)))


@cache
def _is_ours(kind: type) -> bool:
    return kind.__module__.startswith("fastconv.")
