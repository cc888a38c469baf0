"""Models in files: every bit comes back, nothing hostile gets in, no crash leaves half a file."""

from __future__ import annotations

import json
import os
import pickle
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv.initializers import Initializer
from fastconv.layers import (
    Activation,
    AvgPool2D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2D,
    Input,
    Layer,
    LeakyReLU,
    MaxPool2D,
    ReLU,
    Softmax,
)
from fastconv.losses import BinaryCrossentropy, Loss, MeanSquaredError
from fastconv.metrics import BinaryAccuracy, Metric
from fastconv.optimizers import SGD, Adam, Optimizer
from fastconv.training import ModelFileError, Sequential, load_model

RNG = np.random.default_rng(2)
X = RNG.standard_normal((40, 2, 8, 8)).astype(np.float32)
Y = RNG.integers(0, 4, 40)


def one_of_each(dtype: str = "float32") -> Sequential:
    return Sequential(
        [
            Input((2, 8, 8)),
            Conv2D(4, (3, 2), strides=(1, 2), padding=((1, 1), (0, 1)), groups=2, activation="relu"),
            Conv2D(4, 3, padding="same", use_bias=False, kernel_initializer="he_normal"),
            ReLU(),
            MaxPool2D(2),
            LeakyReLU(0.25),
            AvgPool2D((1, 2), padding="valid"),
            Sequential([Flatten(), Dense(8, activation="tanh"), Dropout(0.25)], name="inner"),
            Dense(4, bias_initializer=fc.initializers.Constant(0.1)),
            Activation("linear"),
            Softmax(name="last"),
        ],
        seed=3,
        dtype=dtype,
        name="each",
    )


def global_pooling() -> Sequential:
    return Sequential([Conv2D(4, 3, input_shape=(2, 8, 8)), GlobalAvgPool2D()], seed=1)


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    "optimizer", [SGD(0.05), SGD(0.05, momentum=0.9, nesterov=True), Adam(0.01)], ids=lambda o: repr(o)
)
@pytest.mark.parametrize("make", [one_of_each, lambda: one_of_each("float64"), global_pooling])
def test_training_continues_bit_for_bit(tmp_path: Path, optimizer: Optimizer, make: Callable[[], Sequential]) -> None:
    """Weights, the optimizer's state and the random generator come back: shuffling and dropout too."""
    model = make()
    model.compile(type(optimizer).from_config(optimizer.get_config()), "sparse_categorical_crossentropy", ["accuracy"])
    model.fit(X, Y, epochs=2, batch_size=16, verbose=0)
    model.save(tmp_path / "model.npz")
    restored = load_model(tmp_path / "model.npz")
    assert same(model.get_weights(), restored.get_weights())
    assert restored.optimizer.iterations == model.optimizer.iterations
    np.testing.assert_array_equal(model.predict(X), restored.predict(X))
    expected = model.fit(X, Y, epochs=2, batch_size=16, validation_split=0.25, verbose=0)
    continued = restored.fit(X, Y, epochs=2, batch_size=16, validation_split=0.25, verbose=0)
    assert continued.history == expected.history
    assert same(model.get_weights(), restored.get_weights())


def test_description_comes_back(tmp_path: Path) -> None:
    model = one_of_each()
    model.layers[2].trainable = False
    model.layers[7].trainable = False
    model.compile(
        SGD(0.1, momentum=0.5), BinaryCrossentropy(from_logits=True), ["accuracy", BinaryAccuracy(0.25), BinaryAccuracy]
    )
    model.save(tmp_path / "model.npz")
    restored = load_model(tmp_path / "model.npz")
    assert restored.get_config() == model.get_config()
    assert [layer.name for layer in restored.layers] == [layer.name for layer in model.layers]
    assert [layer.trainable for layer in restored.layers] == [layer.trainable for layer in model.layers]
    assert [metric.threshold for metric in restored.metrics] == [0.0, 0.25, 0.5]
    assert repr(restored.optimizer) == repr(model.optimizer)
    assert repr(restored.loss) == repr(model.loss)
    lines: tuple[list[str], list[str]] = ([], [])
    for each, said in zip((model, restored), lines, strict=True):
        each.summary(print_fn=said.append)
    assert lines[0] == lines[1]


def test_restored_initializers_are_the_configured_ones(tmp_path: Path) -> None:
    model = one_of_each()
    model.save(tmp_path / "model.npz")
    restored = load_model(tmp_path / "model.npz")
    for a, b in zip(model.parameters, restored.parameters, strict=True):
        assert repr(a.initializer) == repr(b.initializer)


def test_a_model_need_not_be_compiled(tmp_path: Path) -> None:
    model = global_pooling()
    model.save(tmp_path / "model.npz")
    restored = load_model(tmp_path / "model.npz")
    assert restored.optimizer is None
    np.testing.assert_array_equal(model.predict(X), restored.predict(X))


class Doubling(Layer):
    def forward(self, x: np.ndarray, training: bool = False) -> tuple[np.ndarray, Any]:
        return 2 * x, lambda grad_y, input_grad=True: 2 * grad_y


class Halves(Initializer):
    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        return np.full(shape, 0.5)


class Gentle(SGD):
    pass


class Offset(Metric):
    name = "offset"

    def count(self, y_true: np.ndarray, y_pred: np.ndarray) -> tuple[float, int]:
        return float((y_pred - y_true).sum()), y_pred.size


class Squares(MeanSquaredError):
    pass


CUSTOM = {kind.__name__: kind for kind in (Doubling, Halves, Gentle, Offset, Squares)}


def test_custom_objects(tmp_path: Path) -> None:
    model = Sequential([Input(3), Doubling(), Dense(1, kernel_initializer=Halves())], seed=0)
    model.compile(Gentle(0.01), Squares(), [Offset()])
    x = RNG.standard_normal((8, 3))
    model.fit(x, x[:, 0], verbose=0)
    model.save(tmp_path / "model.npz")
    restored = load_model(tmp_path / "model.npz", custom_objects=CUSTOM)
    assert type(restored.layers[1]) is Doubling
    assert type(restored.optimizer) is Gentle
    assert restored.evaluate(x, x[:, 0], verbose=0) == model.evaluate(x, x[:, 0], verbose=0)
    for name in CUSTOM:
        known = {key: kind for key, kind in CUSTOM.items() if key != name}
        with pytest.raises(ModelFileError, match=rf"'{name}'.*custom_objects"):
            load_model(tmp_path / "model.npz", custom_objects=known)


class TestWeights:
    def test_round_trip(self, tmp_path: Path) -> None:
        model, other = one_of_each(), one_of_each()
        other.set_weights([weight + 1 for weight in model.get_weights()])
        model.save_weights(tmp_path / "weights.npz")
        other.load_weights(tmp_path / "weights.npz")
        assert same(model.get_weights(), other.get_weights())

    def test_weights_of_a_saved_model(self, tmp_path: Path) -> None:
        model, other = one_of_each(), one_of_each("float64")
        model.save(tmp_path / "model.npz")
        other.load_weights(tmp_path / "model.npz")
        assert same([weight.astype(np.float64) for weight in model.get_weights()], other.get_weights())

    def test_weights_alone_are_no_model(self, tmp_path: Path) -> None:
        one_of_each().save_weights(tmp_path / "weights.npz")
        with pytest.raises(ModelFileError, match=r"weights alone.*load_weights"):
            load_model(tmp_path / "weights.npz")

    def test_weights_of_another_model(self, tmp_path: Path) -> None:
        Sequential([Dense(3, input_shape=2, name="small")]).save_weights(tmp_path / "weights.npz")
        wide = Sequential([Dense(4, input_shape=2)])
        before = wide.get_weights()
        with pytest.raises(ModelFileError, match=r"'kernel' of shape \(4, 2\).*'small/kernel' of shape \(3, 2\)"):
            wide.load_weights(tmp_path / "weights.npz")
        with pytest.raises(ModelFileError, match=r"expected 4 arrays.*received 2"):
            Sequential([Dense(4, input_shape=2), Dense(1)]).load_weights(tmp_path / "weights.npz")
        assert same(before, wide.get_weights())

    def test_they_are_read_with_numpy_alone(self, tmp_path: Path) -> None:
        model = global_pooling()
        model.save(tmp_path / "model.npz")
        with np.load(tmp_path / "model.npz", allow_pickle=False) as file:
            np.testing.assert_array_equal(file["weights/0"], model.get_weights()[0])
            assert json.loads(file["manifest"].tobytes())["weights"] == ["conv2d/kernel", "conv2d/bias"]


class TestTheFile:
    def test_a_failed_save_keeps_the_old_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        model = global_pooling()
        path = tmp_path / "model.npz"
        model.save(path)
        before = path.read_bytes()

        def full(*arguments: Any, **arrays: Any) -> None:
            raise OSError("no space left on device")

        monkeypatch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="no space left"):
            model.save(path)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["model.npz"]

    def test_it_is_replaced_whole_and_leaves_nothing_beside(self, tmp_path: Path) -> None:
        model = global_pooling()
        for _ in range(2):
            model.save(str(tmp_path / "model.npz"))
        assert os.listdir(tmp_path) == ["model.npz"]

    @pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
    def test_it_has_the_permissions_of_any_new_file(self, tmp_path: Path) -> None:
        (tmp_path / "plain").touch()
        global_pooling().save(tmp_path / "model.npz")
        assert stat.S_IMODE(os.stat(tmp_path / "model.npz").st_mode) == stat.S_IMODE(
            os.stat(tmp_path / "plain").st_mode
        )

    @pytest.mark.skipif(os.name != "posix", reason="links are POSIX's")
    def test_a_link_stays_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "link.npz").symlink_to(tmp_path / "model.npz")
        global_pooling().save(tmp_path / "link.npz")
        assert (tmp_path / "link.npz").is_symlink()
        assert load_model(tmp_path / "model.npz").built

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            global_pooling().save(tmp_path / "no" / "model.npz")
        with pytest.raises(FileNotFoundError):
            load_model(tmp_path / "model.npz")

    def test_same_model_same_bytes(self, tmp_path: Path) -> None:
        for name in ("a.npz", "b.npz"):
            global_pooling().save(tmp_path / name)
        with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
            assert a.files == b.files
            assert all(np.array_equal(a[name], b[name]) for name in a.files)


def saved(folder: Path, change: Callable[[dict[str, Any], dict[str, np.ndarray]], Any] = lambda *_: None) -> Path:
    """A saved model whose manifest and arrays somebody changed."""
    model = one_of_each()
    model.compile(Adam(), "sparse_categorical_crossentropy", ["accuracy"])
    model.fit(X, Y, verbose=0)
    path = folder / "model.npz"
    model.save(path)
    with np.load(path) as file:
        arrays = dict(file)
    manifest = json.loads(arrays.pop("manifest").tobytes())
    change(manifest, arrays)
    np.savez(path, manifest=np.frombuffer(json.dumps(manifest).encode(), np.uint8), **arrays)
    return path


def set_in(manifest: dict[str, Any], keys: tuple[Any, ...], value: Any) -> None:
    for key in keys[:-1]:
        manifest = manifest[key]
    manifest[keys[-1]] = value


CONV = ("model", "config", "layers", 1, "config")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("format",), "keras"),
        (("version",), 99),
        (("version",), "1"),
        (("model",), None),
        (("model",), []),
        (("model",), "Sequential"),
        (("model", "class_name"), "os.system"),
        (("model", "class_name"), ["Sequential"]),
        (("model", "class_name"), "Dense"),
        (("model", "class_name"), "Adam"),
        (("model", "config"), []),
        (("model", "config", "layers"), {}),
        (("model", "config", "layers"), [1, 2]),
        (("model", "config", "dtype"), "object"),
        (("model", "config", "dtype"), "float64"),
        (("model", "config", "seed"), "x"),
        (("model", "config", "evil"), 1),
        ((*CONV, "filters"), 10**12),
        ((*CONV, "filters"), -1),
        ((*CONV, "filters"), "4"),
        ((*CONV, "kernel_size"), [10**18, 10**18]),
        ((*CONV, "padding"), {"a": 1}),
        ((*CONV, "kernel_initializer"), {"class_name": "Dense", "config": {"units": 3}}),
        ((*CONV, "kernel_initializer"), None),
        ((*CONV, "activation"), "eval"),
        ((*CONV, "name"), {}),
        ((*CONV, "__class__"), 1),
        (("input_shape",), [2, 8, 9]),
        (("input_shape",), [2, 10**9, 10**9]),
        (("input_shape",), None),
        (("weights",), []),
        (("weights",), 7),
        (("weights",), ["a"] * 500),
        (("generator",), {}),
        (("generator",), {"bit_generator": "PCG64"}),
        (("generator", "state", "state"), -1),
        (("generator", "bit_generator"), "MT19937"),
        (("compiled",), 3),
        (("compiled", "optimizer"), "adam2"),
        (("compiled", "optimizer", "config", "learning_rate"), -1),
        (("compiled", "iterations"), -1),
        (("compiled", "iterations"), 1.5),
        (("compiled", "loss"), {"class_name": "Adam", "config": {}}),
        (("compiled", "metrics"), ["accurazy"]),
        (("compiled", "metrics"), 3),
    ],
    ids=str,
)
def test_a_hostile_manifest_is_a_typed_error(tmp_path: Path, keys: tuple[Any, ...], value: Any) -> None:
    path = saved(tmp_path, lambda manifest, arrays: set_in(manifest, keys, value))
    with pytest.raises(ModelFileError, match=r"model\.npz|version|fastconv"):
        load_model(path)


@pytest.mark.parametrize("depth", [300, 100_000])
def test_a_bottomless_manifest_is_a_typed_error(tmp_path: Path, depth: int) -> None:
    stacks = '{"class_name": "Stack", "config": {"name": null, "layers": [' * depth + "]}}" * depth
    text = '{"format": "fastconv", "version": 1, "weights": [], "input_shape": [1], "model": ' + stacks + "}"
    np.savez(tmp_path / "model.npz", manifest=np.frombuffer(text.encode(), np.uint8))
    with pytest.raises(ModelFileError, match=r"model\.npz"):
        load_model(tmp_path / "model.npz")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m, a: a.pop("weights/0"), "not all there"),
        (lambda m, a: a.update({"weights/0": a["weights/0"][:1]}), "weights of shape"),
        (lambda m, a: a.update({"weights/1": a["weights/1"].astype(np.float64)}), "float32.*float64"),
        (lambda m, a: a.update({"weights/1": a["weights/1"].astype("U8")}), "received"),
        (lambda m, a: a.update({"optimizer/first_moment": np.zeros(3, np.float32)}), "first_moment"),
        (lambda m, a: a.update({"optimizer/first_moment": np.zeros(3)}), "first_moment"),
    ],
)
def test_hostile_arrays_are_a_typed_error(tmp_path: Path, change: Any, match: str) -> None:
    with pytest.raises(ModelFileError, match=match):
        load_model(saved(tmp_path, change))


def test_every_truncation_is_a_typed_error(tmp_path: Path) -> None:
    path = saved(tmp_path)
    content = path.read_bytes()
    for size in {0, 1, 10, len(content) - 1, *range(0, len(content), max(1, len(content) // 50))}:
        path.write_bytes(content[:size])
        with pytest.raises(ModelFileError):
            load_model(path)


def test_changed_bytes_are_a_typed_error_or_harmless(tmp_path: Path) -> None:
    path = saved(tmp_path)
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    refused = 0
    for position in rng.integers(0, len(content), 200):
        mutated = bytearray(content)
        mutated[position] ^= 1 << rng.integers(8)
        path.write_bytes(mutated)
        try:
            load_model(path).predict(X)
        except ModelFileError:
            refused += 1
    assert refused > 150


def test_no_pickle_is_read(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return pytest.fail, ("the file ran code",)

    path = tmp_path / "model.npz"
    np.savez(path, manifest=np.array([Bomb()], dtype=object))
    with pytest.raises(ModelFileError):
        load_model(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelFileError):
        load_model(path)


def test_other_archives_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x_train=np.zeros(3))
    with pytest.raises(ModelFileError, match="fastconv model"):
        load_model(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../manifest.npy", b"{}")
    with pytest.raises(ModelFileError):
        load_model(path)


def test_a_loss_without_arguments_is_kept(tmp_path: Path) -> None:
    model = global_pooling()
    model.compile("sgd", "mse")
    model.save(tmp_path / "model.npz")
    loss: Loss | None = load_model(tmp_path / "model.npz").loss
    assert isinstance(loss, MeanSquaredError)
