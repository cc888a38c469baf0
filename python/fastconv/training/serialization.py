"""Models in files: a .npz archive of plain numbers and one JSON text.

``manifest`` (bytes of UTF-8) describes the layers, the optimizer, the loss and the metrics by class
name and arguments; ``weights/0`` ... are the parameters in order, ``optimizer/...`` the optimizer's
flat state. Nothing is pickled, and classes are looked up among fastconv's own and those the caller
passes. A file is written beside its destination and moved over it, so that a crash leaves the old
one or the new one.

A stored array takes the place of its parameter's initializer while the model is built. No file can
therefore make a parameter larger than the array it brings along.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import initializers, layers, losses, metrics, optimizers, regularizers, schedules
from .._config import Configurable, describe, restore
from .._npz import read_arrays
from .._validation import Array
from ..initializers import Initializer
from ..layers.parameter import Parameter

if TYPE_CHECKING:
    from .model import Sequential

FORMAT = "fastconv"
VERSION = 1


class ModelFileError(ValueError):
    """A file holds no model, a damaged one, or one that does not fit."""


def save_model(model: Sequential, path: str | os.PathLike[str]) -> None:
    """Write a built model; see `Sequential.save`."""
    manifest = _manifest(model)
    manifest["model"] = describe(model)
    manifest["input_shape"] = model.input_shape
    manifest["generator"] = model.generator.bit_generator.state
    arrays = {}
    compiled = model.compiled
    if compiled is not None:
        manifest["compiled"] = {
            "optimizer": describe(compiled.optimizer),
            "iterations": compiled.optimizer.iterations,
            "loss": describe(compiled.loss),
            "metrics": [
                metric if isinstance(metric, str) else describe(metrics.get(metric)) for metric in compiled.requested
            ],
        }
        arrays = {f"optimizer/{name}": a for name, a in compiled.optimizer.state.items()}
    _write(path, manifest, _weights(model) | arrays)


def save_weights(model: Sequential, path: str | os.PathLike[str]) -> None:
    """Write the parameters alone; see `Sequential.save_weights`."""
    _write(path, _manifest(model), _weights(model))


def load_model(
    path: str | os.PathLike[str],
    custom_objects: Mapping[str, type[Configurable]] | None = None,
) -> Sequential:
    """Read a model that `Sequential.save` wrote, ready to predict and to train on.

    Training continues bit for bit as it would have without the file.

    Parameters
    ----------
    path : str or path-like
    custom_objects : mapping of str to type, optional
        Your own layers, losses, metrics, optimizers and initializers by class name.

    Returns
    -------
    Sequential

    Raises
    ------
    ModelFileError
        If the file is no model, is damaged, or names a class that is not known.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np, fastconv as fc
    >>> model = fc.Sequential([fc.Input((2,)), fc.Dense(3)], seed=0)
    >>> x = np.ones((1, 2), np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.npz")
    ...     model.save(path)
    ...     restored = fc.load_model(path)
    >>> np.array_equal(model.predict(x), restored.predict(x))
    True
    """
    manifest, arrays = _read(path)
    if "model" not in manifest:
        raise ModelFileError(
            f"expected a model; received {os.fspath(path)}, which holds weights alone: make the "
            "model, then model.load_weights(path)"
        )
    try:
        return _restore(manifest, arrays, dict(custom_objects or {}))
    except ModelFileError as error:
        raise ModelFileError(f"{os.fspath(path)}: {error}") from error
    except Exception as error:  # whatever a hostile description sets off, users get one kind
        raise ModelFileError(
            f"expected a model that can be restored; received {os.fspath(path)}: {type(error).__name__}: {error}"
        ) from error


def load_weights(model: Sequential, path: str | os.PathLike[str]) -> None:
    """Read parameters into a built model; see `Sequential.load_weights`."""
    manifest, arrays = _read(path)
    parameters = model.parameters
    stored = _stored_weights(manifest, arrays)
    names = manifest["weights"]
    if len(stored) != len(parameters):
        raise ModelFileError(
            f"expected {len(parameters)} arrays for this model's parameters; received "
            f"{len(stored)} in {os.fspath(path)}"
        )
    for name, array, parameter in zip(names, stored, parameters, strict=True):
        if array.shape != parameter.value.shape:
            raise ModelFileError(
                f"expected {parameter.name!r} of shape {parameter.value.shape}; received {name!r} "
                f"of shape {array.shape} in {os.fspath(path)}"
            )
    model.set_weights(stored)


class _Stored(Initializer):
    """Gives a parameter the values of a file, if they fit."""

    def __init__(self, array: Array) -> None:
        self.array = array

    def __call__(self, shape: tuple[int, ...], dtype: Any = None, rng: np.random.Generator | None = None) -> Array:
        if self.array.shape != shape or self.array.dtype != dtype:
            raise ModelFileError(
                f"expected weights of shape {shape} and {dtype}; received {self.array.shape} and {self.array.dtype}"
            )
        return self.array


def _manifest(model: Sequential) -> dict[str, Any]:
    names = [f"{layer.name}/{parameter.name}" for layer in model.layers for parameter in layer.parameters]
    return {"format": FORMAT, "version": VERSION, "weights": names}


def _weights(model: Sequential) -> dict[str, Array]:
    return {f"weights/{i}": p.value for i, p in enumerate(model.parameters)}


def _write(path: str | os.PathLike[str], manifest: dict[str, Any], arrays: Mapping[str, Array]) -> None:
    text = json.dumps(manifest, allow_nan=False).encode()
    destination = Path(os.path.realpath(path))
    temporary = destination.with_name(f".{destination.name}.{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            np.savez(file, manifest=np.frombuffer(text, np.uint8), **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, destination)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Array]]:
    try:
        arrays = read_arrays(path)
    except ValueError as error:
        raise ModelFileError(str(error)) from error
    try:
        manifest = json.loads(arrays.pop("manifest").astype(np.uint8, casting="no").tobytes())
    except KeyError:
        raise ModelFileError(
            f"expected a fastconv model; received {os.fspath(path)}, a .npz archive without one"
        ) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{os.fspath(path)}: its manifest is damaged: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ModelFileError(f"expected a fastconv model; received {os.fspath(path)}")
    if manifest.get("version") != VERSION:
        raise ModelFileError(
            f"expected format version {VERSION}; received {manifest.get('version')!r}: "
            f"{os.fspath(path)} comes from another version of fastconv"
        )
    return manifest, arrays


def _stored_weights(manifest: dict[str, Any], arrays: Mapping[str, Array]) -> list[Array]:
    names = manifest.get("weights")
    if not isinstance(names, list) or not all(f"weights/{i}" in arrays for i in range(len(names))):
        raise ModelFileError("the weights that the manifest lists are not all there")
    return [arrays[f"weights/{i}"] for i in range(len(names))]


def _known_classes(*modules: ModuleType) -> dict[str, type[Configurable]]:
    named = (getattr(module, name) for module in modules for name in module.__all__)
    classes = [kind for kind in named if isinstance(kind, type) and issubclass(kind, Configurable)]
    return {kind.__name__: kind for kind in classes}


def _restore(
    manifest: dict[str, Any],
    arrays: Mapping[str, Array],
    custom_objects: Mapping[str, type[Configurable]],
) -> Sequential:
    from .model import Sequential

    of_layers = _known_classes(initializers, layers, regularizers)
    model = restore(manifest["model"], {**of_layers, "Sequential": Sequential, **custom_objects})
    if not isinstance(model, Sequential):
        raise ModelFileError(f"expected a Sequential; received {type(model).__name__}")
    _build(model, manifest["input_shape"], _stored_weights(manifest, arrays))
    model.generator.bit_generator.state = manifest["generator"]
    if "compiled" in manifest:
        parts = manifest["compiled"]
        # A table for each: a loss and a metric may have one name.
        model.compile(
            restore(parts["optimizer"], {**_known_classes(optimizers, schedules), **custom_objects}),
            restore(parts["loss"], {**_known_classes(losses), **custom_objects}),
            restore(parts["metrics"], {**_known_classes(metrics), **custom_objects}),
        )
        _restore_optimizer(model, parts["iterations"], arrays)
    return model


def _build(model: Sequential, input_shape: Sequence[int], stored: list[Array]) -> None:
    parameters: list[Parameter] = model.parameters
    if len(parameters) != len(stored):
        raise ModelFileError(f"expected {len(parameters)} weights; received {len(stored)}")
    wanted = [parameter.initializer for parameter in parameters]
    for parameter, array in zip(parameters, stored, strict=True):
        parameter.initializer = _Stored(array)
    model.build(input_shape)
    for parameter, initializer in zip(parameters, wanted, strict=True):
        parameter.initializer = initializer


def _restore_optimizer(model: Sequential, iterations: Any, arrays: Mapping[str, Array]) -> None:
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 0:
        raise ModelFileError(f"expected a count of iterations; received {iterations!r}")
    prefix = "optimizer/"
    state = {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}
    trained = sum(p.value.size for p in model.parameters if p.trainable)
    for name, array in state.items():
        if array.shape != (trained,) or array.dtype != model.dtype:
            raise ModelFileError(
                f"expected {name!r} of shape ({trained},) and {model.dtype}; received {array.shape} and {array.dtype}"
            )
    if model.compiled is not None:
        model.compiled.optimizer.restore(iterations, state)
