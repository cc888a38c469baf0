"""The contenders of one convolution: fastconv, and each peer behind an adapter of a few lines.

Every contender gets its tensors beforehand in the layout it likes best; what a call then allocates,
reorders or packs belongs to its time, as it does in a network. A result must be the right one: a
contender that computes something else is not a peer. ONNX Runtime may pack its weights beforehand,
because its networks are constant: it is the peer of inference alone.

Packages are imported by name where an adapter is made. They are extras, and their types are theirs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

import fastconv
from bench.environment import installed
from bench.shapes import ConvShape
from fastconv import reference

Array: TypeAlias = NDArray[Any]

ONNX_OPSET = 13
ONNX_IR_VERSION = 8
"""Old enough for any ONNX Runtime that installs; Conv has not changed since."""


@dataclass(frozen=True)
class Problem:
    """A shape with its arrays: NCHW input and grad-output, OIHW weights."""

    shape: ConvShape
    x: Array
    weight: Array
    grad_output: Array

    @classmethod
    def random(cls, shape: ConvShape, dtype: str) -> Problem:
        """Fill the arrays with standard normal numbers, the same in every run."""
        rng = np.random.default_rng(0)
        sizes = (shape.x_shape, shape.weight_shape, shape.output_shape)
        return cls(shape, *(rng.standard_normal(size, dtype=np.dtype(dtype)) for size in sizes))


Calls: TypeAlias = dict[str, Callable[[], Any]]
"""For each pass that a contender has: the call to time. It returns the contender's own type."""


class Contender(Protocol):
    """One way to compute the passes of a convolution."""

    def prepare(self, problem: Problem) -> Calls:
        """Convert the arrays and return a call for each pass."""
        ...

    def to_numpy(self, result: Any, pass_name: str) -> Array:
        """Bring a call's result back to the layout of the problem's arrays."""
        ...


class ArrayLibrary:
    """fastconv, or its plain NumPy reference: both take and return NumPy arrays."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def prepare(self, problem: Problem) -> Calls:
        """Return a call for each of the three passes."""
        x, weight, grad = problem.x, problem.weight, problem.grad_output
        shape = problem.shape
        options = (shape.stride, shape.padding, shape.dilation, shape.groups)

        def gradient(mask: tuple[bool, bool, bool]) -> Any:
            gradients = self.module.conv2d_backward(grad, x, weight, *options, output_mask=mask)
            return gradients[mask.index(True)]

        return {
            "forward": lambda: self.module.conv2d(x, weight, None, *options),
            "grad_input": lambda: gradient((True, False, False)),
            "grad_weight": lambda: gradient((False, True, False)),
        }

    def to_numpy(self, result: Any, pass_name: str) -> Array:
        """Return the array as it is."""
        return np.asarray(result)


class Torch:
    """PyTorch, eager, with tensors in one of its two memory formats."""

    def __init__(self, threads: int, memory_format: str) -> None:
        self.torch: Any = importlib.import_module("torch")
        self.torch.set_num_threads(threads)
        self.memory_format = getattr(self.torch, memory_format)

    def prepare(self, problem: Problem) -> Calls:
        """Return a call for each of the three passes."""
        torch, shape = self.torch, problem.shape
        x, weight, grad = (
            torch.from_numpy(array).contiguous(memory_format=self.memory_format)
            for array in (problem.x, problem.weight, problem.grad_output)
        )
        geometry = ([shape.stride] * 2, list(shape.padding), [shape.dilation] * 2)

        @torch.inference_mode()  # type: ignore[untyped-decorator]
        def output() -> Any:
            return torch.conv2d(x, weight, None, *geometry, shape.groups)

        @torch.inference_mode()  # type: ignore[untyped-decorator]
        def gradient(mask: list[bool]) -> Any:
            gradients = torch.ops.aten.convolution_backward(
                grad, x, weight, None, *geometry, False, [0, 0], shape.groups, mask
            )
            return gradients[mask.index(True)]

        return {
            "forward": output,
            "grad_input": lambda: gradient([True, False, False]),
            "grad_weight": lambda: gradient([False, True, False]),
        }

    def to_numpy(self, result: Any, pass_name: str) -> Array:
        """Return a tensor's array: its axes are NCHW whatever the memory format."""
        return np.asarray(result)


class Jax:
    """JAX, compiled, with NCHW or NHWC arrays. Its threads are those of the environment."""

    def __init__(self, layout: str) -> None:
        self.jax: Any = importlib.import_module("jax")
        self.jax.config.update("jax_platforms", "cpu")
        self.jax.config.update("jax_enable_x64", True)
        self.layout = layout
        self.weight_layout = {"NCHW": "OIHW", "NHWC": "HWIO"}[layout]

    def prepare(self, problem: Problem) -> Calls:
        """Return a compiled call for each of the three passes."""
        jax, shape = self.jax, problem.shape
        x = jax.numpy.asarray(_permuted(problem.x, "NCHW", self.layout))
        grad = jax.numpy.asarray(_permuted(problem.grad_output, "NCHW", self.layout))
        weight = jax.numpy.asarray(_permuted(problem.weight, "OIHW", self.weight_layout))

        def convolve(x: Any, weight: Any) -> Any:
            return jax.lax.conv_general_dilated(
                x,
                weight,
                window_strides=(shape.stride,) * 2,
                padding=[(pad, pad) for pad in shape.padding],
                rhs_dilation=(shape.dilation,) * 2,
                dimension_numbers=(self.layout, self.weight_layout, self.layout),
                feature_group_count=shape.groups,
            )

        # The unused half of the pair, and the forward pass before it, are dead code to XLA.
        def gradient(index: int) -> Callable[[], Any]:
            function = jax.jit(lambda x, w, grad: jax.vjp(convolve, x, w)[1](grad)[index])
            return lambda: function(x, weight, grad).block_until_ready()

        forward = jax.jit(convolve)
        return {
            "forward": lambda: forward(x, weight).block_until_ready(),
            "grad_input": gradient(0),
            "grad_weight": gradient(1),
        }

    def to_numpy(self, result: Any, pass_name: str) -> Array:
        """Return the array with its axes in NCHW or OIHW order."""
        if pass_name == "grad_weight":
            return _permuted(result, self.weight_layout, "OIHW")
        return _permuted(result, self.layout, "NCHW")


def _permuted(array: Any, axes: str, wanted: str) -> Array:
    return np.ascontiguousarray(np.transpose(array, [axes.index(axis) for axis in wanted]))


class OnnxRuntime:
    """ONNX Runtime on a network of one Conv node: forward alone."""

    def __init__(self, threads: int) -> None:
        self.onnx: Any = importlib.import_module("onnx")
        self.onnxruntime: Any = importlib.import_module("onnxruntime")
        self.options = self.onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1

    def prepare(self, problem: Problem) -> Calls:
        """Return a call for the forward pass."""
        onnx, shape = self.onnx, problem.shape
        helper = onnx.helper
        dtype = helper.np_dtype_to_tensor_dtype(problem.x.dtype)
        node = helper.make_node(
            "Conv",
            ["x", "weight"],
            ["y"],
            strides=[shape.stride] * 2,
            pads=list(shape.padding) * 2,
            dilations=[shape.dilation] * 2,
            group=shape.groups,
        )
        graph = helper.make_graph(
            [node],
            "convolution",
            [helper.make_tensor_value_info("x", dtype, shape.x_shape)],
            [helper.make_tensor_value_info("y", dtype, shape.output_shape)],
            [onnx.numpy_helper.from_array(problem.weight, "weight")],
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", ONNX_OPSET)],
            ir_version=ONNX_IR_VERSION,
        )
        session = self.onnxruntime.InferenceSession(
            model.SerializeToString(), self.options, providers=["CPUExecutionProvider"]
        )
        return {"forward": lambda: session.run(None, {"x": problem.x})[0]}

    def to_numpy(self, result: Any, pass_name: str) -> Array:
        """Return the array as it is."""
        return np.asarray(result)


def contenders(threads: int) -> tuple[dict[str, Contender], dict[str, str]]:
    """Make all contenders that are installed, and say why the others are absent.

    Parameters
    ----------
    threads : int
        Threads for each; see :func:`bench.environment.relaunch_with_threads`.

    Returns
    -------
    present : dict of str to Contender
        By name; ``"fastconv"`` and ``"numpy"`` are always among them.
    absent : dict of str to str
        Name and reason.
    """
    fastconv.set_num_threads(threads)
    makers: dict[str, Callable[[], Contender]] = {
        "fastconv": lambda: ArrayLibrary(fastconv),
        "torch": lambda: Torch(threads, "contiguous_format"),
        "torch channels_last": lambda: Torch(threads, "channels_last"),
        "jax": lambda: Jax("NCHW"),
        "jax NHWC": lambda: Jax("NHWC"),
        "onnxruntime": lambda: OnnxRuntime(threads),
        "numpy": lambda: ArrayLibrary(reference),
    }
    return installed(makers)
