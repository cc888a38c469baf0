"""Losses: the value and its gradient in the predictions, computed side by side.

A loss is a mean over samples (and over a sample's outputs), each sample multiplied by its weight:
``sum(w_i * loss_i) / N``, Keras's ``sum_over_batch_size``. One pass gives both numbers, because
they share their expensive part. Targets are checked and converted once, by `prepare_targets`;
`per_sample` and `compute` then trust them, and take their arrays from the step's arena.
"""

from .._config import by_name
from .base import Loss
from .crossentropy import (
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    CrossEntropy,
    KLDivergence,
    SparseCategoricalCrossentropy,
)
from .margin import CategoricalHinge, Exponential, Hinge, SquaredHinge
from .regression import (
    Huber,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    Poisson,
    Quantile,
)

NAMES: dict[str, type[Loss]] = {
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "mae": MeanAbsoluteError,
    "mean_absolute_percentage_error": MeanAbsolutePercentageError,
    "mape": MeanAbsolutePercentageError,
    "huber": Huber,
    "log_cosh": LogCosh,
    "quantile": Quantile,
    "poisson": Poisson,
    "binary_crossentropy": BinaryCrossentropy,
    "binary_focal_crossentropy": BinaryFocalCrossentropy,
    "categorical_crossentropy": CategoricalCrossentropy,
    "categorical_focal_crossentropy": CategoricalFocalCrossentropy,
    "sparse_categorical_crossentropy": SparseCategoricalCrossentropy,
    "kl_divergence": KLDivergence,
    "hinge": Hinge,
    "squared_hinge": SquaredHinge,
    "categorical_hinge": CategoricalHinge,
    "exponential": Exponential,
}

__all__ = [
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalHinge",
    "CrossEntropy",
    "Exponential",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "Poisson",
    "Quantile",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "get",
]


def get(loss: str | Loss | type[Loss]) -> Loss:
    """Return a loss from its name, its class or itself.

    Examples
    --------
    >>> get("mse")
    MeanSquaredError(reduction='sum_over_batch_size')
    """
    return by_name("loss", loss, Loss, NAMES)
