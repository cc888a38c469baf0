"""Pooling on arrays: maximum, average and global average, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastconv import _call, _dispatch, _shapes
from fastconv import _validation as check
from fastconv._call import Plans, run
from fastconv._threads import get_num_threads
from fastconv._validation import Array

_pool2d = _dispatch.Kernels("pool2d")
_max, _max_backward, _average, _average_backward, _global, _global_backward = (Plans() for _ in range(6))
_taps_backward = Plans()
_UINT8 = np.dtype(np.uint8)


class _Plan(NamedTuple):
    """What the arguments of a pooling settle: the kernel, what it is told, and the array of the result."""

    kernel: Callable[..., Any]
    numbers: tuple[Any, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def _geometry(
    shape: tuple[int, ...],
    kernel_size: object,
    stride: object,
    padding: object,
    dilation: object,
    ceil_mode: object,
) -> _shapes.Geometry:
    """Resolve a pooling window over images of `shape`; stride None is the kernel's size."""
    if stride is None:
        stride = kernel_size
    _shapes.check_kinds(stride, padding, dilation, kernel_size)
    if not isinstance(ceil_mode, bool | np.bool_):
        raise TypeError(f"ceil_mode: expected a bool; received {ceil_mode!r} of type {type(ceil_mode).__name__}")
    if len(shape) != 4:
        raise ValueError(f"x: expected 4 axes; received shape {shape}")
    if 0 in shape[1:]:
        raise ValueError(f"x: expected channels, height and width of at least 1; received shape {shape}")
    g = _shapes.geometry(shape[2], shape[3], kernel_size, stride, padding, dilation, bool(ceil_mode))
    if padding != "same":
        _shapes.check_pool_padding(g.padding, g.kernel)
    return g


def max_pool2d(
    x: Array,
    kernel_size: object,
    stride: object = None,
    padding: object = 0,
    dilation: object = 1,
    *,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Take the largest value of each window.

    Parameters
    ----------
    x : ndarray (N, C, H, W), float32 or float64
        Images.
    kernel_size : int or pair of int
        Rows and columns of the window.
    stride : int or pair of int, optional
        Steps between windows; `kernel_size` where it is None.
    padding : int, pair, ((top, bottom), (left, right)), "valid" or "same"
        Rows and columns of -inf around the image, at most half the kernel.
    dilation : int or pair of int
        Steps between the taps of a window.
    ceil_mode : bool
        Round the output size up, so that a last window may reach over the edge (PyTorch's rule).
    return_indices : bool
        Also return where each maximum stood.

    Returns
    -------
    y : ndarray (N, C, OH, OW)
        NaN is larger than every number.
    indices : ndarray (N, C, OH, OW), int64
        Only with `return_indices`: the flat index, row * W + column; the first of equals.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `conv2d`.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x = np.array([[8, 4, 2, 1], [9, 3, 2, 8], [1, 5, 7, 1], [2, 0, 3, 7]], np.float32)
    >>> fc.max_pool2d(x.reshape(1, 1, 4, 4), 2)[0, 0]
    array([[9., 8.],
           [5., 7.]], dtype=float32)
    """
    plan = _max.find(x, kernel_size, stride, padding, dilation, ceil_mode)
    if plan is None:
        x, plan = _plan_max(x, kernel_size, stride, padding, dilation, ceil_mode)
    kernel, numbers, shape, dtype = plan
    y = _call.empty(shape, dtype)
    indices = np.empty(shape, np.int64) if return_indices else None
    run(kernel, x, y, indices, None, *numbers, get_num_threads())
    return y if indices is None else (y, indices)


def _plan_max(
    x: Array, kernel_size: object, stride: object, padding: object, dilation: object, ceil_mode: bool
) -> tuple[Array, _Plan]:
    """Check the arguments; return the array as the kernels read it, and the plan."""
    x = check.array(x, "x")
    g = _geometry(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    shape = (x.shape[0], x.shape[1], g.out_height, g.out_width)
    check.size(shape, x.dtype)
    plan = _Plan(_pool2d[x.dtype.char].max_forward, (g.kernel, g.stride, g.padding, g.dilation), shape, x.dtype)
    _max.keep(plan, x, kernel_size, stride, padding, dilation, ceil_mode)
    return x, plan


def max_pool2d_backward(
    grad_output: Array,
    x: Array,
    kernel_size: object,
    stride: object = None,
    padding: object = 0,
    dilation: object = 1,
    *,
    ceil_mode: bool = False,
) -> Array:
    """Differentiate `max_pool2d`: each gradient goes to the pixel that won its window.

    Parameters
    ----------
    grad_output : ndarray (N, C, OH, OW)
        Gradient with respect to the result of the forward call.
    x : ndarray (N, C, H, W)
        The images of the forward call.
    kernel_size, stride, padding, dilation, ceil_mode
        As in the forward call.

    Returns
    -------
    ndarray (N, C, H, W)
        Gradient with respect to x.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `conv2d`; `grad_output` must have the shape that the forward call returned.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x = np.array([[1, 5], [2, 3]], np.float32).reshape(1, 1, 2, 2)
    >>> fc.max_pool2d_backward(np.ones((1, 1, 1, 1), np.float32), x, 2)[0, 0]
    array([[0., 1.],
           [0., 0.]], dtype=float32)
    """
    plan = _max_backward.find(grad_output, x, kernel_size, stride, padding, dilation, ceil_mode)
    if plan is None:
        grad_output, x, plan = _plan_max_backward(grad_output, x, kernel_size, stride, padding, dilation, ceil_mode)
    kernel, numbers, shape, dtype = plan
    grad_x = _call.empty(shape, dtype)
    run(kernel, grad_output, x, None, grad_x, *numbers, get_num_threads())
    return grad_x


def _plan_max_backward(
    grad_output: Array,
    x: Array,
    kernel_size: object,
    stride: object,
    padding: object,
    dilation: object,
    ceil_mode: bool,
) -> tuple[Array, Array, _Plan]:
    """Check the arguments; return the arrays as the kernels read them, and the plan."""
    x = check.array(x, "x")
    grad_output = check.array_like(grad_output, "grad_output", x, "x")
    g = _geometry(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    shape = (x.shape[0], x.shape[1], g.out_height, g.out_width)
    grad_output = check.shaped_like(grad_output, "grad_output", shape, "that of the forward result", x, "x")
    plan = _Plan(_pool2d[x.dtype.char].max_backward, (g.kernel, g.stride, g.padding, g.dilation), x.shape, x.dtype)
    _max_backward.keep(plan, grad_output, x, kernel_size, stride, padding, dilation, ceil_mode)
    return grad_output, x, plan


_PAIRS = ((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))
"""Windows of 2 x 2 side by side, as the kernels are told of them."""


def max_pool2x2(x: Array) -> tuple[Array, Array]:
    """Take the largest value of each window of 2 x 2, side by side, and note which of the four it was.

    With the taps, `max_pool2x2_backward` needs x no longer.

    Parameters
    ----------
    x : ndarray (N, C, H, W), float32 or float64
        Images of at least 2 x 2 pixels.

    Returns
    -------
    y : ndarray (N, C, H // 2, W // 2)
        As `max_pool2d` gives it.
    taps : ndarray of y's shape, uint8
        2 * row + column of the largest in its window; the first of equals.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `max_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> y, taps = max_pool2x2(np.array([[8, 4, 2, 1], [9, 3, 2, 8]], np.float32).reshape(1, 1, 2, 4))
    >>> y.ravel(), taps.ravel()
    (array([9., 8.], dtype=float32), array([2, 3], dtype=uint8))
    """
    plan = _max.find(x, 2, 2, 0, 1, False)
    if plan is None:
        x, plan = _plan_max(x, 2, 2, 0, 1, False)
    kernel, numbers, shape, dtype = plan
    y, taps = _call.empty(shape, dtype), _call.empty(shape, _UINT8)
    run(kernel, x, y, None, taps, *numbers, get_num_threads())
    return y, taps


def max_pool2x2_backward(grad_output: Array, taps: Array, x_shape: tuple[int, int, int, int]) -> Array:
    """Differentiate `max_pool2x2`: each gradient goes to the tap that won its window.

    Parameters
    ----------
    grad_output : ndarray (N, C, H // 2, W // 2)
        Gradient with respect to y.
    taps : ndarray of the same shape, uint8
        What the forward call returned.
    x_shape : (N, C, H, W)
        Shape of the images of the forward call.

    Returns
    -------
    ndarray (N, C, H, W)
        Gradient with respect to x.

    Raises
    ------
    TypeError, ValueError, MemoryError
        Where shapes or dtypes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> max_pool2x2_backward(np.full((1, 1, 1, 1), 5.0), np.array([[[[2]]]], np.uint8), (1, 1, 2, 2))[0, 0]
    array([[0., 0.],
           [5., 0.]])
    """
    kernel = _taps_backward.find(grad_output, x_shape)
    if kernel is None:
        grad_output = check.array(grad_output, "grad_output")
        x_shape = _image_shape(x_shape)
        g = _geometry(x_shape, 2, None, 0, 1, False)
        shape = (*x_shape[:2], g.out_height, g.out_width)
        if grad_output.shape != shape:
            raise ValueError(
                f"grad_output: expected shape {shape}, that of the forward result; received {grad_output.shape}"
            )
        kernel = _pool2d[grad_output.dtype.char].max_backward
        _taps_backward.keep(kernel, grad_output, x_shape)
    if type(taps) is not np.ndarray or taps.dtype != _UINT8:
        kind = taps.dtype if type(taps) is np.ndarray else taps
        raise TypeError(f"taps: expected a NumPy array of uint8; received {kind!r}")
    if taps.shape != grad_output.shape:
        raise ValueError(f"taps: expected shape {grad_output.shape}, that of grad_output; received {taps.shape}")
    grad_x = _call.empty(x_shape, grad_output.dtype)
    run(kernel, grad_output, None, np.ascontiguousarray(taps), grad_x, *_PAIRS, get_num_threads())
    return grad_x


def _divisor(divisor_override: object) -> int:
    return 0 if divisor_override is None else _shapes.integer(divisor_override, "divisor_override", 1)


def _image_shape(x_shape: object) -> tuple[int, int, int, int]:
    if not isinstance(x_shape, tuple | list):
        raise TypeError(
            f"x_shape: expected a shape (N, C, H, W); received {x_shape!r} of type {type(x_shape).__name__}"
        )
    if len(x_shape) != 4:
        raise ValueError(f"x_shape: expected a shape (N, C, H, W); received {x_shape!r}")
    n, c, h, w = (_shapes.integer(size, "x_shape", 0) for size in x_shape)
    return n, c, h, w


def avg_pool2d(
    x: Array,
    kernel_size: object,
    stride: object = None,
    padding: object = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """Take the mean of each window.

    Parameters
    ----------
    x : ndarray (N, C, H, W), float32 or float64
        Images.
    kernel_size, stride, padding, ceil_mode
        As in `max_pool2d`, with zeros for padding.
    count_include_pad : bool
        Whether the padding counts in the mean. Taps beyond the padded image never do (PyTorch, and ONNX
        from opset 19).
    divisor_override : int, optional
        Divide every sum by this instead.

    Returns
    -------
    ndarray (N, C, OH, OW)
        The means.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `conv2d`.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.avg_pool2d(np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2), 2)
    array([[[[1.5]]]], dtype=float32)
    """
    options = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    plan = _average.find(x, *options)
    if plan is None:
        x, plan = _plan_average(x, *options)
    kernel, numbers, shape, dtype = plan
    y = _call.empty(shape, dtype)
    run(kernel, x, y, *numbers, get_num_threads())
    return y


def _plan_average(
    x: Array,
    kernel_size: object,
    stride: object,
    padding: object,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> tuple[Array, _Plan]:
    """Check the arguments; return the array as the kernels read it, and the plan."""
    x = check.array(x, "x")
    divisor = _divisor(divisor_override)
    g = _geometry(x.shape, kernel_size, stride, padding, 1, ceil_mode)
    shape = (x.shape[0], x.shape[1], g.out_height, g.out_width)
    check.size(shape, x.dtype)
    numbers = (g.kernel, g.stride, g.padding, bool(count_include_pad), divisor)
    plan = _Plan(_pool2d[x.dtype.char].average_forward, numbers, shape, x.dtype)
    _average.keep(plan, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return x, plan


def avg_pool2d_backward(
    grad_output: Array,
    x_shape: tuple[int, int, int, int],
    kernel_size: object,
    stride: object = None,
    padding: object = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """Differentiate `avg_pool2d`: each gradient is shared equally among the pixels of its window.

    Parameters
    ----------
    grad_output : ndarray (N, C, OH, OW)
        Gradient with respect to the result of the forward call.
    x_shape : tuple (N, C, H, W)
        Shape of the images of the forward call.
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        As in the forward call.

    Returns
    -------
    ndarray (N, C, H, W)
        Gradient with respect to x.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `conv2d`; `grad_output` must have the shape that the forward call returned.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.avg_pool2d_backward(np.ones((1, 1, 1, 1), np.float32), (1, 1, 2, 2), 2)[0, 0]
    array([[0.25, 0.25],
           [0.25, 0.25]], dtype=float32)
    """
    options = (x_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    plan = _average_backward.find(grad_output, *options)
    if plan is None:
        grad_output, plan = _plan_average_backward(grad_output, *options)
    kernel, numbers, shape, dtype = plan
    grad_x = _call.empty(shape, dtype)
    run(kernel, grad_output, grad_x, *numbers, get_num_threads())
    return grad_x


def _plan_average_backward(
    grad_output: Array,
    x_shape: tuple[int, int, int, int],
    kernel_size: object,
    stride: object,
    padding: object,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> tuple[Array, _Plan]:
    """Check the arguments; return the array as the kernels read it, and the plan."""
    grad_output = check.array(grad_output, "grad_output")
    shape = _image_shape(x_shape)
    divisor = _divisor(divisor_override)
    g = _geometry(shape, kernel_size, stride, padding, 1, ceil_mode)
    grad_output = check.shaped_like(
        grad_output, "grad_output", (shape[0], shape[1], g.out_height, g.out_width),
        "that of the forward result", grad_output, "grad_output",
    )  # fmt: skip
    check.size(shape, grad_output.dtype)
    numbers = (g.kernel, g.stride, g.padding, bool(count_include_pad), divisor)
    plan = _Plan(_pool2d[grad_output.dtype.char].average_backward, numbers, shape, grad_output.dtype)
    _average_backward.keep(
        plan, grad_output, x_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )
    return grad_output, plan


_MODES: dict[str, tuple[Any, Any]] = {
    "max": (max_pool2d, max_pool2d_backward),
    "avg": (avg_pool2d, avg_pool2d_backward),
}


def _mode(mode: object) -> tuple[Any, Any]:
    if not isinstance(mode, str):
        raise TypeError(f'mode: expected "max" or "avg"; received {mode!r} of type {type(mode).__name__}')
    if mode not in _MODES:
        raise ValueError(f'mode: expected "max" or "avg"; received {mode!r}')
    return _MODES[mode]


def pool2d(
    x: Array,
    kernel_size: object,
    stride: object = None,
    padding: object = 0,
    *,
    mode: str = "max",
    **options: Any,
) -> Any:
    """Pool by maximum or mean: `max_pool2d` or `avg_pool2d` by name.

    Parameters
    ----------
    x, kernel_size, stride, padding
        As in `max_pool2d`.
    mode : {"max", "avg"}
        Which pooling.
    **options
        The options of that function.

    Returns
    -------
    ndarray (N, C, OH, OW)
        As that function.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `conv2d`.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.pool2d(np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2), 2, mode="avg")
    array([[[[1.5]]]], dtype=float32)
    """
    return _mode(mode)[0](x, kernel_size, stride, padding, **options)


def pool2d_backward(
    grad_output: Array,
    x: Array,
    kernel_size: object,
    stride: object = None,
    padding: object = 0,
    *,
    mode: str = "max",
    **options: Any,
) -> Array:
    """Differentiate `pool2d`.

    Parameters
    ----------
    grad_output : ndarray (N, C, OH, OW)
        Gradient with respect to the result of the forward call.
    x : ndarray (N, C, H, W)
        The images of the forward call.
    kernel_size, stride, padding, mode, **options
        As in the forward call.

    Returns
    -------
    ndarray (N, C, H, W)
        Gradient with respect to x.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `conv2d`.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x = np.zeros((1, 1, 2, 2), np.float32)
    >>> fc.pool2d_backward(np.ones((1, 1, 1, 1), np.float32), x, 2, mode="avg")[0, 0]
    array([[0.25, 0.25],
           [0.25, 0.25]], dtype=float32)
    """
    x = check.array(x, "x")
    grad_output = check.array_like(grad_output, "grad_output", x, "x")
    backward = _mode(mode)[1]
    source = x.shape if mode == "avg" else x
    result: Array = backward(grad_output, source, kernel_size, stride, padding, **options)
    return result


def global_avg_pool2d(x: Array) -> Array:
    """Take the mean of each channel of each image.

    Parameters
    ----------
    x : ndarray (N, C, H, W), float32 or float64
        Images.

    Returns
    -------
    ndarray (N, C, 1, 1)
        The means.

    Raises
    ------
    TypeError, ValueError
        As `conv2d`.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.global_avg_pool2d(np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2))
    array([[[[1.5]]]], dtype=float32)
    """
    plan = _global.find(x)
    if plan is None:
        x, plan = _plan_global(x)
    kernel, _, shape, dtype = plan
    y = _call.empty(shape, dtype)
    run(kernel, x, y, get_num_threads())
    return y


def _plan_global(x: Array) -> tuple[Array, _Plan]:
    """Check the argument; return the array as the kernels read it, and the plan."""
    x = check.array(x, "x")
    check.axes(x, "x", 4)
    check.no_empty_axes(x, "x", "channels, height and width")
    plan = _Plan(_pool2d[x.dtype.char].global_average_forward, (), (*x.shape[:2], 1, 1), x.dtype)
    _global.keep(plan, x)
    return x, plan


def global_avg_pool2d_backward(grad_output: Array, x_shape: tuple[int, int, int, int]) -> Array:
    """Differentiate `global_avg_pool2d`: each gradient is shared equally among the pixels of its plane.

    Parameters
    ----------
    grad_output : ndarray (N, C, 1, 1)
        Gradient with respect to the result of the forward call.
    x_shape : tuple (N, C, H, W)
        Shape of the images of the forward call.

    Returns
    -------
    ndarray (N, C, H, W)
        Gradient with respect to x.

    Raises
    ------
    TypeError, ValueError
        As `conv2d`.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.global_avg_pool2d_backward(np.ones((1, 1, 1, 1), np.float32), (1, 1, 1, 2))
    array([[[[0.5, 0.5]]]], dtype=float32)
    """
    plan = _global_backward.find(grad_output, x_shape)
    if plan is None:
        grad_output, plan = _plan_global_backward(grad_output, x_shape)
    kernel, _, shape, dtype = plan
    grad_x = _call.empty(shape, dtype)
    run(kernel, grad_output, grad_x, get_num_threads())
    return grad_x


def _plan_global_backward(grad_output: Array, x_shape: tuple[int, int, int, int]) -> tuple[Array, _Plan]:
    """Check the arguments; return the array as the kernels read it, and the plan."""
    grad_output = check.array(grad_output, "grad_output")
    shape = _image_shape(x_shape)
    if 0 in shape[1:]:
        raise ValueError(f"x_shape: expected channels, height and width of at least 1; received {shape}")
    grad_output = check.shaped_like(
        grad_output, "grad_output", (*shape[:2], 1, 1), "one for each plane", grad_output, "grad_output"
    )  # fmt: skip
    check.size(shape, grad_output.dtype)
    plan = _Plan(_pool2d[grad_output.dtype.char].global_average_backward, (), shape, grad_output.dtype)
    _global_backward.keep(plan, grad_output, x_shape)
    return grad_output, plan
