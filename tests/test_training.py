"""fit, evaluate, predict: that they learn, that they repeat, that they say what is wrong."""

from __future__ import annotations

import copy
import logging
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv.layers import (
    AvgPool2D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Input,
    Layer,
    LeakyReLU,
    MaxPool2D,
    Softmax,
)
from fastconv.losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    CrossEntropy,
    SparseCategoricalCrossentropy,
)
from fastconv.metrics import BinaryAccuracy
from fastconv.optimizers import SGD, Adam
from fastconv.training import Sequential
from fastconv.training.callbacks import Callback, LambdaCallback

RNG = np.random.default_rng(11)
IMAGES = RNG.standard_normal((50, 1, 8, 8)).astype(np.float32)
LABELS = (IMAGES[:, 0, :4].sum(axis=(1, 2)) > 0).astype(np.int64) + 2 * (IMAGES[:, 0, 4:].sum(axis=(1, 2)) > 0)


def small_cnn(seed: int | None = 0, dtype: str = "float32", rate: float = 0.0) -> Sequential:
    model = Sequential(
        [
            Conv2D(4, 3, padding="same", activation="relu"),
            MaxPool2D(2),
            Flatten(),
            Dropout(rate),
            Dense(16, activation="tanh"),
            Dense(4),
        ],
        seed=seed,
        dtype=dtype,
    )
    model.compile(Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


class Meter(Callback):
    """The most memory that each step held beyond what there was before it."""

    def __init__(self) -> None:
        self.allocated: list[int] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        tracemalloc.reset_peak()
        self.before = tracemalloc.get_traced_memory()[0]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.allocated.append(tracemalloc.get_traced_memory()[1] - self.before)


class TestFit:
    def test_learns(self) -> None:
        model = small_cnn()
        model.fit(IMAGES, LABELS, epochs=60, verbose=0)
        assert model.evaluate(IMAGES, LABELS, verbose=0)[1] == 1.0

    def test_same_seed_gives_the_same_bits(self) -> None:
        weights = []
        for threads in (1, 2, 3):
            model = small_cnn(seed=4, rate=0.3)
            with fc.num_threads(threads):
                history = model.fit(IMAGES, LABELS, epochs=3, batch_size=7, validation_split=0.2, verbose=0)
            weights.append([*model.get_weights(), np.array(history.history["val_loss"])])
        assert same(weights[0], weights[1])
        assert same(weights[0], weights[2])
        other = small_cnn(seed=5)
        other.fit(IMAGES, LABELS, epochs=3, batch_size=7, verbose=0)
        assert not same(other.get_weights(), weights[0][:-1])

    def test_epochs_may_be_done_in_two_calls(self) -> None:
        whole, parts = small_cnn(rate=0.3), small_cnn(rate=0.3)
        whole.fit(IMAGES, LABELS, epochs=4, verbose=0)
        parts.fit(IMAGES, LABELS, epochs=2, verbose=0)
        history = parts.fit(IMAGES, LABELS, initial_epoch=2, epochs=4, verbose=0)
        assert history.epoch == [2, 3]
        assert same(whole.get_weights(), parts.get_weights())

    def test_history_is_keras_s(self) -> None:
        model = small_cnn()
        history = model.fit(IMAGES, LABELS, epochs=2, validation_split=0.3, verbose=0)
        assert list(history.history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
        assert all(len(values) == 2 for values in history.history.values())
        assert history.epoch == [0, 1]
        assert len(history.seconds) == 2
        assert model.history is history

    def test_loss_is_the_mean_over_samples_not_batches(self) -> None:
        model = small_cnn(dtype="float64")
        model.optimizer.learning_rate = 0.0
        history = model.fit(IMAGES, LABELS, batch_size=32, epochs=1, verbose=0)
        whole = model.evaluate(IMAGES, LABELS, batch_size=50, verbose=0)
        assert history.history["loss"][0] == pytest.approx(whole[0], rel=1e-12)
        assert history.history["accuracy"][0] == pytest.approx(whole[1])

    def test_validation_split_takes_the_end_before_shuffling(self) -> None:
        model, twin = small_cnn(), small_cnn()
        split = model.fit(IMAGES, LABELS, validation_split=0.2, epochs=2, verbose=0)
        given = twin.fit(IMAGES[:40], LABELS[:40], validation_data=(IMAGES[40:], LABELS[40:]), epochs=2, verbose=0)
        assert split.history == given.history

    def test_validation_data_come_before_a_split(self) -> None:
        model, twin = small_cnn(), small_cnn()
        model.fit(IMAGES, LABELS, validation_data=(IMAGES, LABELS), validation_split=0.5, verbose=0)
        twin.fit(IMAGES, LABELS, verbose=0)
        assert same(model.get_weights(), twin.get_weights())

    def test_weight_zero_is_as_good_as_absent(self) -> None:
        model, twin = small_cnn(), small_cnn()
        weight = np.ones(50)
        weight[10:] = 0
        model.fit(IMAGES, LABELS, sample_weight=weight, shuffle=False, batch_size=10, verbose=0)
        model.optimizer.learning_rate = twin.optimizer.learning_rate
        for start in range(0, 50, 10):
            part = slice(start, start + 10)
            twin.train_on_batch(IMAGES[part], LABELS[part], sample_weight=weight[part])
        assert same(model.get_weights(), twin.get_weights())

    @pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "categorical_crossentropy"])
    def test_class_weight_is_a_sample_weight(self, loss: str) -> None:
        y = LABELS if loss.startswith("sparse") else np.eye(4)[LABELS]
        model, twin = small_cnn(), small_cnn()
        for each in (model, twin):
            each.compile("sgd", loss)
        model.fit(IMAGES, y, class_weight={0: 2.0, 3: 0.5}, verbose=0)
        twin.fit(IMAGES, y, sample_weight=np.array([2.0, 1.0, 1.0, 0.5])[LABELS], verbose=0)
        assert same(model.get_weights(), twin.get_weights())

    def test_class_weight_of_a_binary_loss(self) -> None:
        y = (LABELS > 1).astype(float)
        models = [Sequential([Flatten(), Dense(1)], seed=0) for _ in range(2)]
        for model in models:
            model.compile("sgd", "binary_crossentropy")
        models[0].fit(IMAGES, y, class_weight={1: 3.0}, verbose=0)
        models[1].fit(IMAGES, y, sample_weight=np.where(y == 1, 3.0, 1.0), verbose=0)
        assert same(models[0].get_weights(), models[1].get_weights())

    @pytest.mark.parametrize(
        "convert",
        [
            lambda x: x.astype(np.uint8),
            lambda x: x.astype(np.int64),
            lambda x: x.astype(np.float64),
            lambda x: x.astype(">f4"),
            lambda x: x.tolist(),
            lambda x: np.asfortranarray(x),
            lambda x: np.repeat(x, 2, axis=0)[::2],
        ],
    )
    def test_any_real_data_train_alike(self, convert: Callable[[np.ndarray], Any]) -> None:
        pixels = np.round(np.abs(IMAGES) * 50)
        expected, model = small_cnn(), small_cnn()
        for shuffle in (True, False):
            expected.fit(pixels, LABELS, verbose=0, shuffle=shuffle)
            model.fit(convert(pixels), LABELS.tolist(), verbose=0, shuffle=shuffle)
        assert same(model.get_weights(), expected.get_weights())
        np.testing.assert_array_equal(model.predict(convert(pixels)), expected.predict(pixels))

    def test_data_are_left_as_they_were(self) -> None:
        x, y = IMAGES.copy(), LABELS.copy()
        x.flags.writeable = y.flags.writeable = False
        small_cnn(rate=0.5).fit(x, y, validation_split=0.1, verbose=0)
        np.testing.assert_array_equal(x, IMAGES)

    def test_ctrl_c_leaves_a_usable_model(self) -> None:
        def interrupt(batch: int, logs: Any) -> None:
            if batch == 1:
                raise KeyboardInterrupt

        model = small_cnn()
        callback = LambdaCallback(on_train_batch_end=interrupt)
        with pytest.raises(KeyboardInterrupt):
            model.fit(IMAGES, LABELS, batch_size=8, callbacks=[callback], verbose=0)
        assert model.optimizer.iterations == 2
        model.fit(IMAGES, LABELS, epochs=60, verbose=0)
        assert model.evaluate(IMAGES, LABELS, verbose=0)[1] == 1.0

    def test_ctrl_c_in_the_middle_of_a_step_too(self) -> None:
        class Interrupted(Layer):
            steps = 0

            def forward(self, x: np.ndarray, training: bool = False) -> tuple[np.ndarray, Any]:
                def backward(grad_y: np.ndarray, input_grad: bool = True) -> np.ndarray:
                    self.steps += 1
                    if self.steps == 3:
                        raise KeyboardInterrupt
                    return grad_y

                return x, backward

        model = Sequential([Flatten(), Dense(8), Interrupted(), Dense(4)], seed=0)
        model.compile("sgd", "sparse_categorical_crossentropy")
        with pytest.raises(KeyboardInterrupt):
            model.fit(IMAGES, LABELS, batch_size=8, verbose=0)
        assert model.optimizer.iterations == 2
        model.fit(IMAGES, LABELS, batch_size=8, verbose=0)
        assert model.optimizer.iterations == 9

    def test_a_warm_step_allocates_nothing_large(self) -> None:
        """Activations of these layers are 1.6 MB each; a step may allocate a few small objects.

        The first step measures what a step needs, the second takes that much at once.
        """
        x = np.random.default_rng(0).standard_normal((256, 1, 28, 28)).astype(np.float32)
        labels = np.arange(256) % 10
        for loss, y, activation in (
            ("sparse_categorical_crossentropy", labels, None),
            ("sparse_categorical_crossentropy", labels, "softmax"),
            ("mse", np.zeros((256, 10)), None),
            ("categorical_crossentropy", np.eye(10)[labels], None),
            ("categorical_crossentropy", np.eye(10)[labels], "softmax"),
            ("binary_crossentropy", np.eye(10)[labels], None),
            ("binary_crossentropy", np.eye(10)[labels], "sigmoid"),
        ):
            model = Sequential(
                [
                    Conv2D(8, 3, padding="same", activation="relu"),
                    Conv2D(8, 3, padding="same"),
                    LeakyReLU(),
                    MaxPool2D(2),
                    Dropout(0.5),
                    AvgPool2D(2),
                    Flatten(),
                    Dense(10, activation=activation),
                ],
                seed=0,
            )
            model.compile("adam", loss, metrics=["accuracy"])
            meter = Meter()
            tracemalloc.start()
            try:
                model.fit(x, y, batch_size=64, callbacks=[meter], verbose=0)
            finally:
                tracemalloc.stop()
            assert len(meter.allocated) == 4
            assert meter.allocated[0] > 1_000_000
            assert max(meter.allocated[1:]) < 64_000, (loss, activation)


class TestNotFinite:
    def test_a_diverging_training_says_where(self) -> None:
        model = Sequential([Flatten(), Dense(4, name="wide"), Dense(1)], seed=0)
        model.compile(SGD(1e6), "mse")
        with (
            np.errstate(all="ignore"),
            pytest.raises(
                FloatingPointError, match=r"epoch \d+, batch \d+: expected a finite loss; received (inf|nan)"
            ),
        ):
            model.fit(IMAGES, LABELS, epochs=100, verbose=0)

    def test_bad_data_are_named_and_change_nothing(self) -> None:
        x = IMAGES.copy()
        x[33, 0, 1, 1] = np.nan
        model = small_cnn()
        model.build((1, 8, 8))
        model.fit(IMAGES[:32], LABELS[:32], batch_size=16, shuffle=False, verbose=0)
        with pytest.raises(FloatingPointError, match=r"epoch 1, batch 3: .*nan: the input holds NaN"):
            model.fit(x, LABELS, batch_size=16, shuffle=False, verbose=0)
        assert all(np.isfinite(weight).all() for weight in model.get_weights())

    def test_the_first_layer_is_named(self) -> None:
        model = small_cnn()
        model.build((1, 8, 8))
        model.layers[4].kernel.value[0, 0] = np.inf
        with pytest.raises(FloatingPointError, match="the parameters of 'dense' are not finite"):
            model.train_on_batch(IMAGES, LABELS)

        class Broken(Layer):
            def forward(self, x: np.ndarray, training: bool = False) -> tuple[np.ndarray, Any]:
                return x * np.nan, lambda grad_y, input_grad=True: grad_y

        model = Sequential([Flatten(), Broken(), Dense(4)], seed=0)
        model.compile("sgd", "sparse_categorical_crossentropy")
        with pytest.raises(FloatingPointError, match="'broken' is the first layer"):
            model.train_on_batch(IMAGES, LABELS)


class TestEvaluateAndPredict:
    def test_batches_do_not_matter(self) -> None:
        model = small_cnn(dtype="float64")
        expected = model.predict(IMAGES, batch_size=50)
        np.testing.assert_allclose(model.predict(IMAGES, batch_size=7), expected, rtol=1e-12)
        a = model.evaluate(IMAGES, LABELS, batch_size=7, verbose=0)
        b = model.evaluate(IMAGES, LABELS, batch_size=50, verbose=0)
        assert a == pytest.approx(b, rel=1e-12)

    def test_predictions_are_the_user_s_to_keep(self) -> None:
        model = small_cnn()
        first = model.predict(IMAGES)
        kept = first.copy()
        model.fit(IMAGES, LABELS, verbose=0)
        model.predict(IMAGES)
        np.testing.assert_array_equal(first, kept)

    def test_threads_predict_at_once(self) -> None:
        model = small_cnn()
        expected = model.predict(IMAGES, batch_size=8)
        with ThreadPoolExecutor(8) as pool:
            for y in pool.map(lambda _: model.predict(IMAGES, batch_size=8), range(32)):
                np.testing.assert_array_equal(y, expected)

    def test_threads_evaluate_at_once(self) -> None:
        model = small_cnn()
        expected = model.evaluate(IMAGES, LABELS, batch_size=8, verbose=0)
        with ThreadPoolExecutor(8) as pool:
            for got in pool.map(lambda _: model.evaluate(IMAGES, LABELS, batch_size=8, verbose=0), range(32)):
                assert got == expected

    def test_evaluation_changes_nothing(self) -> None:
        model = small_cnn(rate=0.5)
        model.fit(IMAGES, LABELS, verbose=0)
        before, state = model.get_weights(), model.generator.bit_generator.state
        model.evaluate(IMAGES, LABELS, verbose=0)
        model.predict(IMAGES)
        assert same(before, model.get_weights())
        assert state == model.generator.bit_generator.state

    def test_no_samples_no_predictions(self) -> None:
        assert small_cnn().predict(IMAGES[:0]).shape == (0, 4)

    def test_sample_weight_in_evaluation(self) -> None:
        model = small_cnn(dtype="float64")
        weight = np.linspace(0, 2, 50)
        each = [model.evaluate(IMAGES[i : i + 1], LABELS[i : i + 1], verbose=0)[0] for i in range(50)]
        got = model.evaluate(IMAGES, LABELS, sample_weight=weight, verbose=0, return_dict=True)
        assert got["loss"] == pytest.approx(np.mean(each * weight), rel=1e-12)

    def test_return_values_have_keras_s_form(self) -> None:
        model = small_cnn()
        loss, accuracy = model.evaluate(IMAGES, LABELS, verbose=0)
        assert model.evaluate(IMAGES, LABELS, verbose=0, return_dict=True) == {"loss": loss, "accuracy": accuracy}
        model.compile("sgd", "sparse_categorical_crossentropy")
        assert model.evaluate(IMAGES, LABELS, verbose=0) == pytest.approx(loss)
        assert isinstance(model.train_on_batch(IMAGES, LABELS), float)

    def test_train_on_batch_is_a_step_of_fit(self) -> None:
        model, twin = small_cnn(), small_cnn()
        history = model.fit(IMAGES, LABELS, batch_size=50, shuffle=False, verbose=0)
        got = twin.train_on_batch(IMAGES, LABELS, return_dict=True)
        assert got == {key: values[0] for key, values in history.history.items()}
        assert same(model.get_weights(), twin.get_weights())


class TestCompile:
    @pytest.mark.parametrize(
        ("last", "loss", "from_logits"),
        [
            ([Dense(4)], "sparse_categorical_crossentropy", True),
            ([Dense(4, activation="softmax")], "sparse_categorical_crossentropy", False),
            ([Dense(4), Softmax(), Dropout(0.1), Flatten()], "categorical_crossentropy", False),
            ([Sequential([Dense(4), Softmax()])], CategoricalCrossentropy, False),
            ([Dense(1, activation="sigmoid")], "binary_crossentropy", False),
            ([Dense(1)], "binary_crossentropy", True),
            ([Dense(4, activation="sigmoid")], "categorical_crossentropy", True),
            ([Dense(4)], SparseCategoricalCrossentropy(from_logits=False), False),
        ],
    )
    def test_from_logits_follows_from_the_last_layer(
        self, last: list[Layer], loss: Any, from_logits: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        model = Sequential([Input((3,)), *copy.deepcopy(last)], seed=0)
        with caplog.at_level(logging.INFO, "fastconv"):
            model.compile("sgd", loss)
        assert isinstance(model.loss, CrossEntropy)
        assert model.loss.from_logits is from_logits
        said = "logits" if from_logits else "probabilities"
        lines: list[str] = []
        model.summary(print_fn=lines.append)
        assert said in lines[-1]
        if not isinstance(loss, CrossEntropy):
            assert f"takes {said}" in caplog.text

    def test_the_user_s_loss_is_not_changed(self) -> None:
        loss = BinaryCrossentropy()
        Sequential([Dense(1)]).compile("sgd", loss)
        assert loss.from_logits is None

    def test_logits_and_probabilities_train_alike(self) -> None:
        models = [
            Sequential([Flatten(), Dense(4, activation=activation)], seed=0, dtype="float64")
            for activation in (None, "softmax")
        ]
        for model in models:
            model.compile("sgd", "sparse_categorical_crossentropy")
            model.fit(IMAGES, LABELS, epochs=3, verbose=0)
        for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)

    def test_binary_accuracy_of_logits_has_threshold_zero(self) -> None:
        model = Sequential([Flatten(), Dense(1)], seed=0)
        model.compile("sgd", "binary_crossentropy", metrics=["accuracy", "binary_accuracy", BinaryAccuracy(0.7)])
        model.fit(IMAGES, LABELS > 1, verbose=0)
        assert [metric.threshold for metric in model.metrics] == [0.0, 0.0, 0.7]
        assert [metric.name for metric in model.metrics] == ["accuracy", "binary_accuracy", "binary_accuracy"]

    def test_metrics_may_wait_for_the_shape(self) -> None:
        model = Sequential([Dense(1)], seed=0)
        model.compile("sgd", "mse", metrics=["accuracy"])
        model.fit(np.arange(4.0), [0, 0, 1, 1], verbose=0)
        assert isinstance(model.metrics[0], BinaryAccuracy)

    def test_a_loss_summed_over_a_batch_is_its_mean_at_a_larger_rate(self) -> None:
        weights = []
        for reduction, rate in (("sum", 0.001), ("mean", 0.05)):
            model = small_cnn(dtype="float64")
            model.build((1, 8, 8))
            model.compile(SGD(rate), SparseCategoricalCrossentropy(reduction=reduction))
            model.train_on_batch(IMAGES, LABELS)
            weights.append(model.get_weights())
        for a, b in zip(*weights, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)

    def test_refuses_a_loss_without_a_reduction(self) -> None:
        with pytest.raises(ValueError, match=r"one number.*reduction='none'.*leave reduction out"):
            small_cnn().compile("sgd", SparseCategoricalCrossentropy(reduction="none"))


class TestParametersInOnePlace:
    def test_a_nested_model_may_train_on_its_own_in_between(self) -> None:
        def models() -> tuple[Sequential, Sequential]:
            inner = Sequential([Flatten(), Dense(6, activation="tanh"), Dense(4)], seed=1)
            outer = Sequential([inner, Dense(4)], seed=0)
            outer.build((1, 8, 8))
            for model in (inner, outer):
                model.compile(SGD(0.1), "sparse_categorical_crossentropy")
            return inner, outer

        inner, outer = models()
        for _ in range(3):
            outer.train_on_batch(IMAGES, LABELS)
            before = inner.get_weights()
            inner.train_on_batch(IMAGES, LABELS)
            assert not same(before, inner.get_weights())
            assert same(outer.get_weights()[:4], inner.get_weights())
        before = outer.get_weights()
        outer.train_on_batch(IMAGES, LABELS)
        assert not any(np.array_equal(a, b) for a, b in zip(before, outer.get_weights(), strict=True))

    def test_values_and_gradients_are_views_of_two_flat_arrays(self) -> None:
        model = small_cnn()
        model.fit(IMAGES, LABELS, verbose=0)
        flat = model.compiled.flat
        assert flat.values.size == sum(weight.size for weight in model.get_weights())
        for parameter in model.parameters:
            assert np.shares_memory(parameter.value, flat.values)
            assert np.shares_memory(parameter.grad, flat.gradients)

    def test_frozen_layers_stay(self) -> None:
        model = small_cnn()
        model.build((1, 8, 8))
        model.layers[0].trainable = False
        model.layers[4].trainable = False
        model.compile("adam", "sparse_categorical_crossentropy")
        before = model.get_weights()
        model.fit(IMAGES, LABELS, epochs=2, verbose=0)
        moved = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
        assert moved == [False, False, False, False, True, True]
        assert model.optimizer.state["first_moment"].size == 16 * 4 + 4
        lines: list[str] = []
        model.summary(print_fn=lines.append)
        assert "trainable: 68, not trainable: 1,080" in lines

    def test_freezing_asks_for_compile(self) -> None:
        model = small_cnn()
        model.fit(IMAGES, LABELS, verbose=0)
        model.layers[0].trainable = False
        with pytest.raises(RuntimeError, match=r"call compile\(\) again"):
            model.fit(IMAGES, LABELS, verbose=0)
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(IMAGES, LABELS, verbose=0)

    def test_a_copy_trains_on_its_own(self) -> None:
        model = small_cnn(rate=0.3)
        model.fit(IMAGES, LABELS, verbose=0)
        twin = copy.deepcopy(model)
        before = model.get_weights()
        twin.fit(IMAGES, LABELS, epochs=2, verbose=0)
        assert same(before, model.get_weights())
        model.fit(IMAGES, LABELS, epochs=2, verbose=0)
        assert same(twin.get_weights(), model.get_weights())


@pytest.mark.parametrize(
    ("action", "error", "match"),
    [
        (lambda m: m.fit(IMAGES, LABELS[:49]), ValueError, "one length.*50 samples and 49 targets"),
        (lambda m: m.fit(IMAGES[:0], LABELS[:0]), ValueError, "at least one sample"),
        (lambda m: m.fit(IMAGES, LABELS + 1), ValueError, "labels 0 to 3.*received 4 at index"),
        (lambda m: m.fit(IMAGES, np.eye(4)[LABELS]), ValueError, "one-hot"),
        (lambda m: m.fit(IMAGES[:, 0], LABELS), ValueError, r"\(N, 1, 8, 8\).*x\[:, np.newaxis\]"),
        (lambda m: m.fit(np.moveaxis(IMAGES, 1, -1), LABELS), ValueError, "channels come first"),
        (lambda m: m.fit(IMAGES.reshape(50, 64), LABELS), ValueError, r"x.reshape\(-1, 1, 8, 8\)"),
        (lambda m: m.predict(IMAGES[0]), ValueError, r"x\[np.newaxis\]"),
        (lambda m: m.fit(IMAGES[..., 1:], LABELS), ValueError, r"\(N, 1, 8, 8\); received \(50, 1, 8, 7\)$"),
        (lambda m: m.fit(IMAGES * 1j, LABELS), TypeError, "real numbers.*complex"),
        (lambda m: m.fit(IMAGES.astype(object), LABELS), TypeError, "real numbers.*object"),
        (lambda m: m.fit(["a", "b"], [0, 1]), TypeError, "real numbers.*np.asarray"),
        (lambda m: m.fit([[1.0], [1.0, 2.0]], [0, 1]), ValueError, "ragged"),
        (lambda m: m.fit(np.ma.masked_array(IMAGES), LABELS), TypeError, r"x.filled\(0\)"),
        (lambda m: m.fit(None, LABELS), TypeError, "x to hold real numbers.*object"),
        (lambda m: m.fit(3.0, LABELS), ValueError, "x with a batch axis"),
        (lambda m: m.fit(IMAGES, LABELS, batch_size=0), ValueError, "batch_size.*at least 1"),
        (lambda m: m.fit(IMAGES, LABELS, batch_size=2.5), TypeError, "batch_size.*int"),
        (lambda m: m.fit(IMAGES, LABELS, epochs=0), ValueError, "epochs.*at least 1"),
        (lambda m: m.fit(IMAGES, LABELS, initial_epoch=-1), ValueError, "initial_epoch"),
        (lambda m: m.fit(IMAGES, LABELS, verbose=3), ValueError, '"auto", 0, 1 or 2.*3'),
        (lambda m: m.fit(IMAGES, LABELS, validation_split=1.0), ValueError, "validation_split.*below 1"),
        (lambda m: m.fit(IMAGES, LABELS, validation_split=0.99), ValueError, "both sides"),
        (lambda m: m.fit(IMAGES, LABELS[:40], validation_split=0.5), ValueError, "one length"),
        (lambda m: m.fit(IMAGES, LABELS, validation_data=IMAGES), ValueError, r"\(x, y\).*ndarray"),
        (
            lambda m: m.fit(IMAGES, LABELS, validation_data=(IMAGES, LABELS + 4)),
            ValueError,
            "validation_data: expected labels",
        ),
        (lambda m: m.fit(IMAGES, LABELS, sample_weight=[1.0]), ValueError, r"sample_weight.*\(50,\)"),
        (lambda m: m.fit(IMAGES, LABELS, sample_weight=[np.nan] * 50), ValueError, "finite.*sample_weight"),
        (lambda m: m.fit(IMAGES, LABELS, class_weight={4: 1.0}), ValueError, "0 to 3 in class_weight.*4"),
        (lambda m: m.fit(IMAGES, LABELS, class_weight={"a": 1.0}), TypeError, "class_weight.*'a'"),
        (lambda m: m.fit(IMAGES, LABELS, class_weight={1: np.inf}), ValueError, "finite.*class_weight"),
        (lambda m: m.fit(IMAGES, LABELS, callbacks=[print]), TypeError, "Callback objects.*print"),
        (lambda m: m.compile("adamm", "mse"), ValueError, "optimizer.*'adamm'.*did you mean 'adam'"),
        (lambda m: m.compile("adam", "crossentropy"), ValueError, "loss.*'crossentropy'"),
        (lambda m: m.compile("adam", "mse", metrics="accuracy"), TypeError, "metrics to be a list"),
        (lambda m: m.compile("adam", "mse", metrics=["acuracy"]), ValueError, "did you mean"),
        (lambda m: m.compile("adam", "mse") or m.fit(IMAGES, LABELS), ValueError, r"\(50, 4\).*\(50,\)"),
        (
            lambda m: m.compile("adam", "mse", []) or m.fit(IMAGES, np.eye(4)[LABELS], class_weight={0: 1}),
            ValueError,
            "cross-entropy loss with class_weight",
        ),
        (lambda m: m.load_weights("/no/such/file"), FileNotFoundError, "such"),
    ],
)
def test_errors_come_before_the_first_step(
    action: Callable[[Sequential], Any], error: type[Exception], match: str
) -> None:
    model = small_cnn()
    model.build((1, 8, 8))
    before = model.get_weights()
    with pytest.raises(error, match=match):
        action(model)
    assert same(before, model.get_weights())
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(IMAGES, LABELS, verbose=0)


@pytest.mark.parametrize(
    ("action", "match"),
    [
        (lambda m: m.fit(IMAGES, LABELS), r"compile\(optimizer=..., loss=...\)"),
        (lambda m: m.evaluate(IMAGES, LABELS), r"compile\("),
        (lambda m: m.train_on_batch(IMAGES, LABELS), r"compile\("),
        (lambda m: m.summary(), r"build\(input_shape\).*Input\(shape\)"),
        (lambda m: m.get_weights(), "build"),
        (lambda m: m.save("model.npz"), "built model"),
    ],
)
def test_what_must_come_first(action: Callable[[Sequential], Any], match: str) -> None:
    with pytest.raises(RuntimeError, match=match):
        action(Sequential([Flatten(), Dense(2)]))


def test_a_loss_that_expects_logits_refuses_softmax() -> None:
    model = Sequential([Dense(2, activation="softmax")])
    with pytest.raises(ValueError, match=r"ends in softmax.*leave from_logits out"):
        model.compile(Adam(), SparseCategoricalCrossentropy(from_logits=True))


def test_summary_is_a_table() -> None:
    lines: list[str] = []
    model = small_cnn()
    model.build((1, 8, 8))
    model.summary(print_fn=lines.append)
    assert lines[0] == "Sequential 'sequential', input (1, 8, 8), float32"
    assert lines[4].split() == ["conv2d", "Conv2D", "(4,", "8,", "8)", "40"]
    assert "parameters: 1,148 (4.5 KiB)" in lines
    assert lines[-1] == "loss: SparseCategoricalCrossentropy of logits (the model does not end in softmax)"
    assert max(map(len, lines)) <= 100
