from typing import Any

from numpy import int64, uint8
from numpy.typing import NDArray

_Pair = tuple[int, int]

def max_forward(
    x: NDArray[Any],
    y: NDArray[Any],
    indices: NDArray[int64] | None,
    taps: NDArray[uint8] | None,
    kernel: _Pair,
    stride: _Pair,
    padding: tuple[_Pair, _Pair],
    dilation: _Pair,
    threads: int,
) -> None: ...
def max_backward(
    grad_y: NDArray[Any],
    x: NDArray[Any] | None,
    taps: NDArray[uint8] | None,
    grad_x: NDArray[Any],
    kernel: _Pair,
    stride: _Pair,
    padding: tuple[_Pair, _Pair],
    dilation: _Pair,
    threads: int,
) -> None: ...
def average_forward(
    x: NDArray[Any],
    y: NDArray[Any],
    kernel: _Pair,
    stride: _Pair,
    padding: tuple[_Pair, _Pair],
    count_include_pad: bool,
    divisor: int,
    threads: int,
) -> None: ...
def average_backward(
    grad_y: NDArray[Any],
    grad_x: NDArray[Any],
    kernel: _Pair,
    stride: _Pair,
    padding: tuple[_Pair, _Pair],
    count_include_pad: bool,
    divisor: int,
    threads: int,
) -> None: ...
def global_average_forward(x: NDArray[Any], y: NDArray[Any], threads: int) -> None: ...
def global_average_backward(grad_y: NDArray[Any], grad_x: NDArray[Any], threads: int) -> None: ...
