"""`Sequential`: layers in a row, with Keras's way of training them.

The methods here check and convert what users pass, once; the loops in `loop` then trust it.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .._call import Arena
from .._shapes import integer
from .._validation import Array
from ..layers import Layer, Stack
from ..layers.base import checked_dtype
from ..losses import CrossEntropy, Loss
from ..metrics import Metric
from ..optimizers import Optimizer
from . import loop, serialization
from .batches import Batches, as_samples, check_inputs, check_lengths, split, validation_triple, weight_of_samples
from .callbacks import History
from .compiled import Compiled
from .hooks import Callback, CallbackList, Logs
from .progress import ProgressBar, check_verbose, duration, figures, progress
from .summary import summary_lines


class Sequential(Stack):
    """Layers applied in order, and their training.

    Parameters
    ----------
    layers : sequence of Layer, optional
    seed : int, optional
        Of one generator that draws first weights, shuffles data and drives dropout: the same seed
        gives the same bits. By default every model differs.
    dtype : {"float32", "float64"}
        Of parameters and activations; data are converted to it.
    name : str, optional

    Attributes
    ----------
    layers : list of Layer
    optimizer, loss, metrics
        What `compile` settled; None and an empty list before.
    compiled : Compiled or None
        All that `compile` settled.
    history : History
        Of the last `fit`.
    stop_training : bool
        A callback sets it to end `fit`.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> model = fc.Sequential([fc.Dense(units=1, input_shape=[1])], seed=0)
    >>> model.compile(optimizer="sgd", loss="mean_squared_error")
    >>> x = np.array([-1.0, 0.0, 1.0, 2.0, 3.0, 4.0])
    >>> history = model.fit(x, x, epochs=500, verbose=0)
    >>> model.predict([5.0]).round(1)
    array([[5.]], dtype=float32)
    """

    only_kernels = True
    by_image = True

    def __init__(
        self,
        layers: Sequence[Layer] | None = None,
        *,
        seed: int | None = None,
        dtype: str = "float32",
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.seed = None if seed is None else integer(seed, "seed", 0)
        self.dtype = checked_dtype(dtype)
        self.generator = np.random.default_rng(self.seed)
        self.history = History()
        self.stop_training = False
        self.compiled: Compiled | None = None
        for layer in layers if layers is not None else ():
            self._append(layer)
        self._build_if_declared()

    @property
    def optimizer(self) -> Optimizer | None:
        """Optimizer of `compile`."""
        return self.compiled.optimizer if self.compiled else None

    @property
    def loss(self) -> Loss | None:
        """Loss of `compile`, with ``from_logits`` set."""
        return self.compiled.loss if self.compiled else None

    @property
    def metrics(self) -> list[Metric]:
        """Metrics of `compile`."""
        return self.compiled.metrics if self.compiled else []

    def add(self, layer: Layer) -> None:
        """Append a layer, and build it if the model is built.

        Parameters
        ----------
        layer : Layer
        """
        self._append(layer)
        if self.built and self.input_shape is not None:
            self.build(self.input_shape)
        self._build_if_declared()

    def build(
        self,
        input_shape: int | Sequence[int],
        rng: np.random.Generator | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        """Give the parameters their first values, for samples of that shape.

        Parameters
        ----------
        input_shape : int or tuple of int
            Shape of one sample, without the batch axis.
        rng, dtype
            By default the model's own; a model inside another takes those of the outer one.
        """
        if rng is not None:
            self.generator = rng
        super().build(input_shape, self.generator, self.dtype if dtype is None else dtype)
        if self.compiled and self.output_shape:
            self.compiled.resolve_metrics(self.output_shape)

    def use_rng(self, rng: np.random.Generator) -> None:
        """Draw random numbers from `rng` from now on, in every layer."""
        self.generator = rng
        super().use_rng(rng)

    def compile(
        self,
        optimizer: str | Optimizer | type[Optimizer],
        loss: str | Loss | type[Loss],
        metrics: Sequence[str | Metric | type[Metric]] | None = None,
    ) -> None:
        """Settle how to train.

        A cross-entropy whose ``from_logits`` is left open is set from the model: probabilities if
        it ends in softmax (sigmoid for the binary one), logits if not. The choice is logged to
        ``logging.getLogger("fastconv")`` and shown by `summary`.

        Parameters
        ----------
        optimizer : str, Optimizer or class
            ``"sgd"`` or ``"adam"``, or an object with options.
        loss : str, Loss or class
            ``"mean_squared_error"`` or ``"mse"``, ``"binary_crossentropy"``,
            ``"categorical_crossentropy"``, ``"sparse_categorical_crossentropy"``.
        metrics : sequence of str, Metric or class, optional
            ``"accuracy"`` means the accuracy that fits the loss.
        """
        self.compiled = Compiled(self, optimizer, loss, metrics)

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        batch_size: int = 32,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Callback | Iterable[Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: Sequence[ArrayLike] | None = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: ArrayLike | None = None,
        initial_epoch: int = 0,
    ) -> History:
        """Train for a number of epochs.

        Ctrl-C ends it between two steps, and the model stays as the last step left it.

        Parameters
        ----------
        x : array_like (N, *input_shape)
            Samples, of any real dtype.
        y : array_like (N, ...)
            Targets, as the loss wants them.
        batch_size : int, default 32
        epochs : int, default 1
            Number of the last epoch.
        verbose : {"auto", 0, 1, 2}
            0 is silent, 1 shows a bar (with tqdm installed), 2 prints a line an epoch; "auto"
            shows the bar on a terminal and lines elsewhere.
        callbacks : Callback or iterable of Callback, optional
        validation_split : float, default 0
            Share of the data to validate on, taken from their end before any shuffling; not
            looked at where `validation_data` are given.
        validation_data : (x, y) or (x, y, sample_weight), optional
        shuffle : bool, default True
            Draw a new order each epoch.
        class_weight : mapping of label to float, optional
        sample_weight : array_like (N,), optional
            Multiplied into each sample's loss; the sum is divided by N.
        initial_epoch : int, default 0
            Epochs already done.

        Returns
        -------
        History

        Raises
        ------
        TypeError, ValueError
            Before the first step, for anything wrong with the arguments.
        FloatingPointError
            If the loss is not finite, naming epoch, batch and layer; the weights are those before
            that step.
        """
        compiled = self._require_compiled()
        epochs = integer(epochs, "epochs", 1)
        initial_epoch = integer(initial_epoch, "initial_epoch", 0)
        if validation_data is None:
            training, held_out = split(x, y, sample_weight, validation_split)
        else:
            training, held_out = (x, y, sample_weight), validation_triple(validation_data)
        data = self._batches(compiled, *training, batch_size, class_weight)
        validation = self._held_out(compiled, held_out, batch_size) if held_out else None
        shown = progress(verbose)
        self.history = History()
        params = {
            "epochs": epochs,
            "steps": len(data),
            "samples": data.size,
            "batch_size": data.batch_size,
            "verbose": verbose,
        }
        own = [shown, self.history] if shown else [self.history]
        hooks = CallbackList(callbacks, self, params, own)
        self.stop_training = False
        logs: Logs = {}
        try:
            hooks.call("on_train_begin", None)
            for epoch in range(initial_epoch, epochs):
                logs = self._fit_epoch(compiled, data, validation, shuffle, hooks, epoch)
                if self.stop_training:
                    break
        finally:
            if isinstance(shown, ProgressBar):
                shown.close()
        hooks.call("on_train_end", logs)
        return self.history

    def _fit_epoch(
        self,
        compiled: Compiled,
        data: Batches,
        validation: Batches | None,
        shuffle: bool,
        hooks: CallbackList,
        epoch: int,
    ) -> Logs:
        hooks.call("on_epoch_begin", epoch, None)
        start = time.perf_counter()
        try:
            logs = loop.train_epoch(self, compiled, data, self.generator if shuffle else None, hooks)
        except FloatingPointError as error:
            raise FloatingPointError(f"epoch {epoch + 1}, {error}") from error
        self.history.seconds.append(time.perf_counter() - start)
        if validation:
            tested = loop.test_epoch(self, compiled, validation, hooks, compiled.arena)
            logs |= {f"val_{key}": value for key, value in tested.items()}
        hooks.call("on_epoch_end", epoch, logs)
        return logs

    def evaluate(
        self,
        x: ArrayLike,
        y: ArrayLike,
        batch_size: int = 32,
        verbose: str | int = "auto",
        sample_weight: ArrayLike | None = None,
        callbacks: Callback | Iterable[Callback] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Return the loss and the metrics on some data. Several threads may evaluate at once.

        Parameters
        ----------
        x, y, batch_size, sample_weight, callbacks
            As in `fit`.
        verbose : {"auto", 0, 1, 2}
            Anything but 0 prints a line.
        return_dict : bool, default False

        Returns
        -------
        float, list of float or dict
            The loss; with metrics ``[loss, *metrics]``; by name if `return_dict`.
        """
        compiled = self._require_compiled()
        check_verbose(verbose)
        data = self._batches(compiled, x, y, sample_weight, batch_size)
        params = {
            "steps": len(data),
            "samples": data.size,
            "batch_size": data.batch_size,
            "verbose": verbose,
        }
        start = time.perf_counter()
        hooks = CallbackList(callbacks, self, params)
        logs = loop.test_epoch(self, compiled, data, hooks, Arena())
        if verbose:
            seconds = time.perf_counter() - start
            print(f"{data.size:,} images in {duration(seconds)}: {figures(logs)}", flush=True)
        return _result(logs, return_dict)

    def predict(
        self,
        x: ArrayLike,
        batch_size: int = 32,
        verbose: str | int = "auto",
        callbacks: Callback | Iterable[Callback] | None = None,
    ) -> Array:
        """Return the model's outputs. Several threads may predict at once.

        Parameters
        ----------
        x : array_like (N, *input_shape)
            N may be 0. One-dimensional data are a column where a sample is one number.
        batch_size : int, default 32
        verbose : {"auto", 0, 1, 2}
            Accepted as in Keras; predictions are silent.
        callbacks : Callback or iterable of Callback, optional

        Returns
        -------
        ndarray (N, *output_shape)
        """
        check_verbose(verbose)
        size = integer(batch_size, "batch_size", 1)
        samples = self._inputs(x)
        params = {
            "steps": -(-len(samples) // size),
            "samples": len(samples),
            "batch_size": size,
            "verbose": verbose,
        }
        hooks = CallbackList(callbacks, self, params)
        return loop.predict(self, samples, size, self.output_shape or (), hooks)

    def train_on_batch(
        self,
        x: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Make one step on one batch.

        Parameters
        ----------
        x, y, sample_weight, class_weight
            As in `fit`.
        return_dict : bool, default False

        Returns
        -------
        float, list of float or dict
            The batch's loss before the step, and metrics, as `evaluate` returns them.
        """
        compiled = self._require_compiled()
        data = self._batches(compiled, x, y, sample_weight, None, class_weight)
        hooks = CallbackList(None, self, {})
        return _result(loop.train_epoch(self, compiled, data, None, hooks), return_dict)

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Print the layers with their output shapes and parameters, and the totals.

        Parameters
        ----------
        print_fn : callable, default print
            Called with each line.

        Examples
        --------
        >>> import fastconv as fc
        >>> fc.Sequential([fc.Input((128,)), fc.Dense(64)], name="one").summary()
        Sequential 'one', input (128,), float32
        --------------------------------------
        layer  class  output shape  parameters
        --------------------------------------
        input  Input  (128,)                 0
        dense  Dense  (64,)              8,256
        --------------------------------------
        parameters: 8,256 (32.2 KiB)
        trainable: 8,256, not trainable: 0
        """
        self._require_built()
        for line in summary_lines(self):
            print_fn(line)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file: layers, weights, optimizer and its state, loss, metrics.

        The file is a .npz archive of plain numbers and one JSON text, without pickle. A crash
        leaves the old file or the new one, never half of one.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        self._require_built()
        serialization.save_model(self, path)

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Write the parameters alone, as `save` writes files.

        Parameters
        ----------
        path : str or path-like
        """
        self._require_built()
        serialization.save_weights(self, path)

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Read parameters that `save_weights` or `save` wrote, of a model of the same shape.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        ModelFileError
            If the file holds no weights, or those of another model.
        """
        self._require_built()
        serialization.load_weights(self, path)

    def _build_if_declared(self) -> None:
        if not self.built and self.declared_shape is not None:
            self.build(self.declared_shape)

    def _build_for(self, x: Any) -> None:
        self._inputs(x)

    def _require_built(self) -> None:
        self._build_if_declared()
        if not self.built:
            raise RuntimeError(
                "expected a built model; received one that has not seen a shape: call "
                "build(input_shape), begin with Input(shape), or fit it first"
            )

    def _require_compiled(self) -> Compiled:
        if self.compiled is None:
            raise RuntimeError("expected a compiled model: call compile(optimizer=..., loss=...) first")
        return self.compiled

    def _inputs(self, x: Any) -> Array:
        """Return `x` as samples, building the model for them if it is not."""
        samples = as_samples(x, "x")
        self._build_if_declared()
        if not self.built:
            self.build(samples.shape[1:] or (1,))
        return check_inputs(samples, self.input_shape or ())

    def _batches(
        self,
        compiled: Compiled,
        x: Any,
        y: Any,
        sample_weight: Any,
        batch_size: int | None,
        class_weight: Mapping[int, float] | None = None,
    ) -> Batches:
        samples, targets = self._inputs(x), as_samples(y, "y")
        size = len(samples) if batch_size is None else integer(batch_size, "batch_size", 1)
        check_lengths(samples, targets)
        shape = (len(samples), *(self.output_shape or ()))
        targets = compiled.loss.prepare_targets(targets, shape, self.dtype)
        if class_weight is not None and not isinstance(compiled.loss, CrossEntropy):
            raise ValueError(
                f"expected a cross-entropy loss with class_weight; received {type(compiled.loss).__name__}"
            )
        weights = weight_of_samples(sample_weight, class_weight, targets, shape[-1], self.dtype)
        return Batches(samples, targets, weights, size, self.dtype)

    def _held_out(self, compiled: Compiled, data: tuple[Any, Any, Any], size: int) -> Batches:
        try:
            return self._batches(compiled, *data, size)
        except (TypeError, ValueError) as error:
            raise type(error)(f"validation_data: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        # A copy makes its own arena, and lays its own parameters out.
        compiled = copy.copy(self.compiled)
        if compiled:
            compiled.forget_memory()
        return {**self.__dict__, "compiled": compiled}


def _result(logs: Logs, return_dict: bool) -> Any:
    if return_dict:
        return logs
    values = list(logs.values())
    return values if len(values) > 1 else values[0]
