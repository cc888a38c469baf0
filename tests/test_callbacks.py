"""Callbacks: the order of the hooks, what they receive, and the ones that come along."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv.layers import Dense
from fastconv.optimizers import SGD
from fastconv.schedules import StepDecay
from fastconv.training import Sequential, callbacks
from fastconv.training.callbacks import (
    Callback,
    EarlyStopping,
    History,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
)

X = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)
Y = X @ np.array([[1.0], [-1.0], [0.5]], np.float32)


def model(learning_rate: float = 0.1) -> Sequential:
    made = Sequential([Dense(1, input_shape=3)], seed=0)
    made.compile(fc.optimizers.SGD(learning_rate), "mse")
    return made


HOOKS = [name for name in dir(Callback) if name.startswith("on_")]


class Recorder(Callback):
    """Writes down every hook, with its first argument and the keys of its logs."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        for hook in HOOKS:
            setattr(self, hook, lambda *arguments, hook=hook: self.record(hook, *arguments))

    def record(self, hook: str, *arguments: Any) -> None:
        *number, logs = arguments
        self.calls.append((hook, *number, sorted(logs or {})))


def test_they_have_a_home_at_the_top() -> None:
    assert fc.callbacks is callbacks
    assert set(callbacks.__all__) == {
        *("Callback", "EarlyStopping", "History", "LambdaCallback", "LearningRateScheduler", "ModelCheckpoint"),
        *("ProgressBar", "ReduceLROnPlateau"),
    }


def test_all_of_keras_s_hooks_are_there() -> None:
    assert sorted(HOOKS) == sorted(
        f"on_{what}_{when}"
        for what in ("train", "epoch", "train_batch", "test", "test_batch", "predict", "predict_batch")
        for when in ("begin", "end")
    )


def test_order_of_hooks_in_fit() -> None:
    recorder = Recorder()
    model().fit(X, Y, batch_size=4, epochs=2, validation_split=0.2, callbacks=[recorder], verbose=0)

    def epoch(number: int) -> list[tuple[Any, ...]]:
        return [
            ("on_epoch_begin", number, []),
            ("on_train_batch_begin", 0, []),
            ("on_train_batch_end", 0, ["loss"]),
            ("on_train_batch_begin", 1, []),
            ("on_train_batch_end", 1, ["loss"]),
            ("on_test_begin", []),
            ("on_test_batch_begin", 0, []),
            ("on_test_batch_end", 0, ["loss"]),
            ("on_test_end", ["loss"]),
            ("on_epoch_end", number, ["loss", "val_loss"]),
        ]

    expected = [("on_train_begin", []), *epoch(0), *epoch(1), ("on_train_end", ["loss", "val_loss"])]
    assert recorder.calls == expected


def test_order_of_hooks_in_evaluate_and_predict() -> None:
    recorder = Recorder()
    made = model()
    made.evaluate(X, Y, batch_size=8, callbacks=[recorder], verbose=0)
    assert [call[0] for call in recorder.calls] == [
        "on_test_begin",
        *["on_test_batch_begin", "on_test_batch_end"] * 2,
        "on_test_end",
    ]
    recorder.calls.clear()
    made.predict(X, batch_size=8, callbacks=[recorder])
    assert [call[0] for call in recorder.calls] == [
        "on_predict_begin",
        *["on_predict_batch_begin", "on_predict_batch_end"] * 2,
        "on_predict_end",
    ]
    assert recorder.calls[2][-1] == ["outputs"]


def test_callbacks_know_the_model_and_the_training() -> None:
    callback = Callback()
    made = model()
    made.fit(X, Y, batch_size=4, epochs=3, callbacks=[callback], verbose=0)
    assert callback.model is made
    assert callback.params == {"epochs": 3, "steps": 3, "samples": 10, "batch_size": 4, "verbose": 0}


def test_batch_logs_run_over_the_epoch() -> None:
    losses: list[float] = []
    made = model(learning_rate=0.0)
    history = made.fit(
        X,
        Y,
        batch_size=4,
        shuffle=False,
        verbose=0,
        callbacks=[LambdaCallback(on_train_batch_end=lambda batch, logs: losses.append(logs["loss"]))],
    )
    assert losses[0] == pytest.approx(made.evaluate(X[:4], Y[:4], verbose=0), rel=1e-6)
    assert losses[-1] == history.history["loss"][0]


def test_what_a_callback_adds_to_the_logs_is_kept() -> None:
    callback = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(rate=0.1 * epoch))
    history = model().fit(X, Y, epochs=3, callbacks=[callback], verbose=0)
    assert history.history["rate"] == [0.0, 0.1, 0.2]


def test_stop_training_ends_the_epoch_at_hand() -> None:
    made = model()

    def stop(batch: int, logs: Any) -> None:
        made.stop_training = batch == 1

    made.fit(X, Y, batch_size=2, epochs=5, callbacks=[LambdaCallback(on_train_batch_end=stop)], verbose=0)
    assert made.optimizer.iterations == 2
    assert made.history.epoch == [0]


def test_a_callback_may_change_the_learning_rate() -> None:
    def halve(epoch: int, logs: Any) -> None:
        made.optimizer.learning_rate /= 2

    made = model(learning_rate=0.5)
    made.fit(X, Y, epochs=3, callbacks=[LambdaCallback(on_epoch_begin=halve)], verbose=0)
    assert made.optimizer.learning_rate == 0.0625


def test_a_callback_may_evaluate_predict_and_train() -> None:
    other = model()

    def use(batch: int, logs: Any) -> None:
        made.evaluate(X, Y, verbose=0)
        made.predict(X)
        other.train_on_batch(X, Y)

    made, plain = model(), model()
    for each in (made, plain):
        each.compile("sgd", "mse", ["accuracy"])
    history = made.fit(X, Y, batch_size=4, epochs=2, callbacks=LambdaCallback(on_train_batch_end=use), verbose=0)
    expected = plain.fit(X, Y, batch_size=4, epochs=2, verbose=0)
    np.testing.assert_array_equal(made.get_weights()[0], plain.get_weights()[0])
    assert history.history == expected.history


class Script(Callback):
    """Gives each epoch a value written in advance, and the weights its number."""

    def __init__(self, key: str, values: list[float]) -> None:
        self.key, self.values = key, values

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs[self.key] = self.values[epoch]
        self.model.set_weights([np.full((1, 3), epoch), np.zeros(1)])


def stopped(values: list[float], key: str = "val_loss", **options: Any) -> tuple[EarlyStopping, Sequential]:
    made, callback = model(), EarlyStopping(key, **options)
    made.fit(X, Y, epochs=len(values), callbacks=[Script(key, values), callback], verbose=0)
    return callback, made


@pytest.mark.parametrize(
    ("values", "options", "epochs"),
    [
        ([3, 2, 1], {}, 3),
        ([3, 4, 1, 1], {}, 2),
        ([3, 4, 2, 2.5, 2.6, 1], {"patience": 2}, 5),
        ([3, 2.95, 2.9, 1], {"min_delta": 0.2, "patience": 2}, 3),
        ([3, 4, 5, 6, 7], {"start_from_epoch": 3}, 5),
        ([3, 2.5, 2.4, 2.6, 2.7], {"baseline": 1.0, "patience": 3}, 4),
        ([math.nan, math.nan, 1], {"patience": 2}, 2),
    ],
)
def test_early_stopping(values: list[float], options: Any, epochs: int) -> None:
    callback, made = stopped(values, **options)
    assert len(made.history.epoch) == epochs
    assert callback.stopped_epoch == (epochs - 1 if epochs < len(values) or options.get("start_from_epoch") else 0)


def test_early_stopping_takes_more_accuracy_for_better() -> None:
    callback, made = stopped([0.1, 0.5, 0.4, 0.9], key="val_accuracy", restore_best_weights=True)
    assert callback.mode == "max"
    assert (callback.best, callback.best_epoch, callback.stopped_epoch) == (0.5, 1, 2)
    np.testing.assert_array_equal(made.get_weights()[0], np.full((1, 3), 1))


def test_the_best_weights_return_without_stopping_too() -> None:
    _, made = stopped([3, 1, 2], patience=5, restore_best_weights=True)
    np.testing.assert_array_equal(made.get_weights()[0], np.full((1, 3), 1))


def test_early_stopping_serves_two_trainings(capsys: pytest.CaptureFixture[str]) -> None:
    callback = EarlyStopping("val_loss", verbose=1)
    for _ in range(2):
        made = model()
        made.fit(X, Y, epochs=4, callbacks=[Script("val_loss", [3, 4, 5, 6]), callback], verbose=0)
        assert made.history.epoch == [0, 1]
        assert capsys.readouterr().out == "stopped after epoch 2: val_loss was best in epoch 1, 3\n"


class Rates(Callback):
    """Writes down each epoch's learning rate."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        assert self.model.compiled is not None
        self.rates.append(round(self.model.compiled.optimizer.learning_rate, 6))


@pytest.mark.parametrize(
    ("values", "options", "rates"),
    [
        ([3, 2, 1, 0], {"patience": 1}, [1, 1, 1, 1]),
        ([3, 3, 3, 3], {"patience": 1, "factor": 0.5}, [1, 0.5, 0.25, 0.125]),
        ([3, 3, 3, 2, 2, 2], {"patience": 2}, [1, 1, 0.1, 0.1, 0.1, 0.01]),
        ([3, 3, 3, 3, 3], {"patience": 1, "cooldown": 2, "factor": 0.5}, [1, 0.5, 0.5, 0.25, 0.25]),
        ([3, 3, 3], {"patience": 1, "min_lr": 0.05}, [1, 0.1, 0.05]),
        ([3, 2.99, 2.98], {"patience": 1, "min_delta": 0.5}, [1, 0.1, 0.01]),
    ],
)
def test_rate_falls_on_a_plateau(values: list[float], options: Any, rates: list[float]) -> None:
    made, record = model(), Rates()
    made.compile(SGD(1.0), "mse")
    callback = ReduceLROnPlateau(**options)
    made.fit(X, Y, epochs=len(values), callbacks=[Script("val_loss", values), callback, record], verbose=0)
    assert record.rates == rates


def test_rate_of_each_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    made, record = model(), Rates()
    made.compile(SGD(1.0), "mse")
    scheduler = LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch else rate, verbose=1)
    made.fit(X, Y, epochs=3, callbacks=[scheduler, record], verbose=0)
    assert record.rates == [1, 0.5, 0.25]
    assert capsys.readouterr().out.splitlines()[-1] == "epoch 3: learning rate 0.25"


def test_two_cannot_rule_one_rate() -> None:
    made = model()
    made.compile(SGD(StepDecay(1.0, 5)), "mse")
    for callback in (ReduceLROnPlateau(), LearningRateScheduler(lambda epoch, rate: rate)):
        with pytest.raises(ValueError, match=f"plain learning rate for {type(callback).__name__}.*StepDecay"):
            made.fit(X, Y, callbacks=[callback], verbose=0)


def test_checkpoints_of_every_epoch_and_of_the_best(tmp_path: Path) -> None:
    values = [3, 1, 2]
    made = model()
    every = ModelCheckpoint(tmp_path / "{epoch:02d}-{val_loss:.1f}.npz")
    best = ModelCheckpoint(tmp_path / "best.npz", save_best_only=True, save_weights_only=True)
    made.fit(X, Y, epochs=3, callbacks=[Script("val_loss", values), every, best], verbose=0)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"01-3.0.npz", "02-1.0.npz", "03-2.0.npz", "best.npz"}
    np.testing.assert_array_equal(fc.load_model(tmp_path / "01-3.0.npz").get_weights()[0], np.full((1, 3), 0))
    made.load_weights(tmp_path / "best.npz")
    np.testing.assert_array_equal(made.get_weights()[0], np.full((1, 3), 1))


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: ReduceLROnPlateau(factor=1.0), ValueError, "factor.*between 0 and 1.*1.0"),
        (lambda: LearningRateScheduler(0.1), TypeError, "function of epoch and rate.*0.1"),
        (
            lambda: model().fit(X, Y, callbacks=[ModelCheckpoint("{val_los}.npz")], verbose=0),
            ValueError,
            "'epoch' or one of 'loss'.*'val_los'",
        ),
        (lambda: EarlyStopping(mode="best"), ValueError, "'auto', 'min' or 'max'.*'best'"),
        (
            lambda: model().fit(X, Y, callbacks=[EarlyStopping()], verbose=0),
            ValueError,
            "one of 'loss'; received 'val_loss'.*validation_data",
        ),
        (lambda: LambdaCallback(on_epoch=print), ValueError, "one of on_epoch_begin.*'on_epoch'"),
        (lambda: LambdaCallback(on_epoch_end=3), TypeError, "on_epoch_end to be a function"),
    ],
)
def test_errors_teach(make: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()


class TestProgress:
    def test_lines_tell_speed_numbers_and_time_left(self, capsys: pytest.CaptureFixture[str]) -> None:
        model().fit(X, Y, epochs=2, validation_split=0.2, verbose=2)
        first, second = capsys.readouterr().out.splitlines()
        assert first.startswith("epoch 1/2: ")
        for part in (" images/s, ", "loss ", "val_loss ", " left"):
            assert part in first
        assert second.startswith("epoch 2/2: ")
        assert "left" not in second

    def test_zero_is_silent(self, capfd: pytest.CaptureFixture[str]) -> None:
        made = model()
        made.fit(X, Y, verbose=0)
        made.evaluate(X, Y, verbose=0)
        made.predict(X)
        assert capfd.readouterr() == ("", "")

    def test_auto_prints_lines_where_nobody_looks(self, capsys: pytest.CaptureFixture[str]) -> None:
        made = model()
        made.fit(X, Y)
        made.evaluate(X, Y)
        first, second = capsys.readouterr().out.splitlines()
        assert first.startswith("epoch 1/1: ")
        assert second.startswith("10 images in ")
        assert "loss " in second

    def test_a_bar_counts_images(self, capsys: pytest.CaptureFixture[str]) -> None:
        pytest.importorskip("tqdm")
        model().fit(X, Y, batch_size=4, epochs=2, verbose=1)
        shown = capsys.readouterr().err
        for part in ("epoch 1/2: 100%", "epoch 2/2: 100%", "10/10", "images/s", "loss "):
            assert part in shown

    def test_an_exception_closes_the_bar(self) -> None:
        tqdm = pytest.importorskip("tqdm.auto").tqdm

        def interrupt(batch: int, logs: Any) -> None:
            assert len(tqdm._instances) == 1
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            model().fit(X, Y, callbacks=[LambdaCallback(on_train_batch_end=interrupt)], verbose=1)
        assert len(tqdm._instances) == 0


def test_history_needs_no_logs() -> None:
    history = History()
    history.on_epoch_end(0)
    assert (history.epoch, history.history) == ([0], {})
