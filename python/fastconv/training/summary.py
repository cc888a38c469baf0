"""The table that ``model.summary()`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..losses import CrossEntropy

if TYPE_CHECKING:
    from .model import Sequential


def summary_lines(model: Sequential) -> list[str]:
    """Return the lines of a model's summary.

    Parameters
    ----------
    model : Sequential
        Built.

    Returns
    -------
    list of str
        Name, class, output shape and parameters of each layer; totals; what is compiled.
    """
    rows = [("layer", "class", "output shape", "parameters")]
    for layer in model.layers:
        count = sum(parameter.value.size for parameter in layer.parameters)
        rows.append((layer.name, type(layer).__name__, str(layer.output_shape), f"{count:,}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    ruler = "-" * (sum(widths) + 2 * (len(widths) - 1))
    table = [
        "  ".join(
            cell.rjust(width) if column == 3 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    parameters = model.parameters
    total = sum(parameter.value.size for parameter in parameters)
    trained = sum(parameter.value.size for parameter in parameters if parameter.trainable)
    size = sum(parameter.value.nbytes for parameter in parameters)
    lines = [
        f"Sequential {model.name!r}, input {model.input_shape}, {model.dtype}",
        ruler,
        table[0],
        ruler,
        *table[1:],
        ruler,
        f"parameters: {total:,} ({size / 1024:,.1f} KiB)",
        f"trainable: {trained:,}, not trainable: {total - trained:,}",
    ]
    if model.optimizer is not None and model.loss is not None:
        lines.append(f"optimizer: {model.optimizer!r}")
        lines.append(f"loss: {type(model.loss).__name__}{_reading(model)}")
    return lines


def _reading(model: Sequential) -> str:
    """Say how a cross-entropy reads the predictions."""
    if not isinstance(model.loss, CrossEntropy):
        return ""
    if model.loss.from_logits:
        return f" of logits (the model does not end in {model.loss.activation})"
    return " of probabilities"
