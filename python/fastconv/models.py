"""Networks ready to train, as functions that build them: LeNet-5 and a multilayer perceptron.

Each takes the shape of one input, without the batch axis, and the number of classes, and returns a
built `Sequential` whose last layer gives one logit a class. ``MODELS`` is the table by name that
the command line reads: a new network is a function and a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .layers import AvgPool2D, Conv2D, Dense, Flatten, Input, MaxPool2D
from .training import Sequential

__all__ = ["MODELS", "lenet5", "mlp"]

_POOLING = {"max": MaxPool2D, "avg": AvgPool2D}


def lenet5(
    input_shape: Sequence[int] = (1, 28, 28),
    classes: int = 10,
    *,
    activation: str = "relu",
    pooling: str = "max",
    seed: int | None = None,
    dtype: str = "float32",
) -> Sequential:
    """Build LeNet-5 (LeCun, Bottou, Bengio and Haffner, 1998, figure 2), of any input size.

    Two convolutions of 5 x 5 with 6 and 16 filters, each followed by pooling of 2 x 2, then dense layers of 120, 84
    and `classes` units: 61,706 parameters on 1 x 32 x 32, which the paper's network reads, and on 1 x 28 x 28, which
    the first convolution pads ("same"). Images under 16 pixels are too small to shrink four times: there both
    convolutions pad, and the first pooling is left out.

    Parameters
    ----------
    input_shape : sequence of 3 int
        (channels, height, width), at least 2 x 2 pixels.
    classes : int
        Number of logits.
    activation : str
        After each layer but the last. The paper's is "tanh".
    pooling : {"max", "avg"}
        The paper's is nearest to "avg".
    seed : int, optional
        Of the first weights, the shuffling and the dropout.
    dtype : {"float32", "float64"}
        Of parameters and activations.

    Returns
    -------
    Sequential
        Built, not compiled.

    Raises
    ------
    ValueError
        If the images are too small, or `pooling` is unknown.

    Examples
    --------
    >>> model = lenet5()
    >>> sum(parameter.value.size for parameter in model.parameters)
    61706
    """
    shape = tuple(input_shape)
    if len(shape) != 3 or min(shape[1:]) < 2:
        raise ValueError(
            f"expected input_shape as (channels, height, width) with at least 2 x 2 pixels; received {shape}"
        )
    if pooling not in _POOLING:
        raise ValueError(f'expected pooling to be "max" or "avg"; received {pooling!r}')
    pool = _POOLING[pooling]
    small, padded = min(shape[1:]) < 16, min(shape[1:]) < 32
    return Sequential(
        [
            Input(shape),
            Conv2D(6, 5, padding="same" if padded else "valid", activation=activation),
            *([] if small else [pool(2)]),
            Conv2D(16, 5, padding="same" if small else "valid", activation=activation),
            pool(2),
            Flatten(),
            Dense(120, activation=activation),
            Dense(84, activation=activation),
            Dense(classes),
        ],
        seed=seed,
        dtype=dtype,
        name="lenet5",
    )


def mlp(
    input_shape: Sequence[int] = (1, 28, 28),
    classes: int = 10,
    *,
    hidden: Sequence[int] = (128, 64),
    activation: str = "relu",
    seed: int | None = None,
    dtype: str = "float32",
) -> Sequential:
    """Build a multilayer perceptron: flatten, hidden dense layers, one logit a class.

    Parameters
    ----------
    input_shape : sequence of int
        Shape of one input, of any rank.
    classes : int
        Number of logits.
    hidden : sequence of int
        Units of each hidden layer; none makes a linear classifier.
    activation : str
        After each hidden layer.
    seed : int, optional
        Of the first weights, the shuffling and the dropout.
    dtype : {"float32", "float64"}
        Of parameters and activations.

    Returns
    -------
    Sequential
        Built, not compiled.

    Examples
    --------
    >>> model = mlp((1, 8, 8), hidden=(32,))
    >>> [parameter.value.shape for parameter in model.parameters]
    [(32, 64), (32,), (10, 32), (10,)]
    """
    return Sequential(
        [
            Input(tuple(input_shape)),
            Flatten(),
            *(Dense(units, activation=activation) for units in hidden),
            Dense(classes),
        ],
        seed=seed,
        dtype=dtype,
        name="mlp",
    )


MODELS: dict[str, Callable[..., Sequential]] = {"lenet5": lenet5, "mlp": mlp}
