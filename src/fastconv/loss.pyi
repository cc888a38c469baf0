from typing import Any

from numpy import float64, int64
from numpy.typing import NDArray

def softmax_cross_entropy(
    logits: NDArray[Any],
    labels: NDArray[int64],
    sample_weight: NDArray[Any] | None,
    losses: NDArray[float64],
    grad: NDArray[Any],
    threads: int,
) -> float: ...
