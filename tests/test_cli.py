"""The command line end to end on small data; each mistake gives one line and an exit status."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from idx_files import write_mnist
from numpy.testing import assert_array_equal

import fastconv as fc
from fastconv import cli
from fastconv.cli import _options, _timing, _train, main

Capture = pytest.CaptureFixture[str]
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes are POSIX's")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the fewest rounds, and do small work in one thread: two would mostly wait on a busy machine."""
    fc.set_num_threads(1)
    monkeypatch.setattr(_train, "COMPARISON_SECONDS", 0.0)
    monkeypatch.setattr(cli._bench, "SECONDS_EACH", 0.0)
    monkeypatch.setattr(_timing, "SETTLE_SECONDS", 0.0)


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archive of images with a bright row, 0 to 2: what a network learns in a moment."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400)
    x = rng.random((400, 1, 8, 8), dtype=np.float32) / 2
    x[np.arange(400), 0, 2 * y + 1] += 1
    path = tmp_path_factory.mktemp("data") / "bars.npz"
    np.savez(path, x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    return path


@pytest.fixture(scope="module")
def trained(bars: Path) -> Path:
    """A network that `train --save` wrote."""
    path = bars.parent / "trained.npz"
    argv = ["train", "--data", str(bars), "--epochs", "3", "--threads", "1", "--save", str(path)]
    assert main(argv) == 0
    return path


def fails(capsys: Capture, status: int, *argv: str | Path) -> str:
    """Run a command that must fail, with one line of error and no other; return the line."""
    capsys.readouterr()
    assert main([str(argument) for argument in argv]) == status
    error = capsys.readouterr().err
    assert error.startswith("fastconv: error: ")
    assert error.count("\n") == 1
    assert error.endswith("\n")
    return error


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "fastconv", *argv], capture_output=True, text=True)


# --- train ---


@pytest.mark.parametrize("model", ["lenet5", "mlp"])
@pytest.mark.parametrize("optimizer", _options.METHODS)
def test_train(bars: Path, capsys: Capture, model: str, optimizer: str) -> None:
    options = ["--epochs", "8", "--batch-size", "16", "--seed", "3"]
    argv = ["train", "--data", str(bars), "--model", model, "--optimizer", optimizer, *options]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "300 training and 100 test images of 1 x 8 x 8, 3 classes" in out
    accuracy = re.search(r"accuracy +([\d.]+)% of the test images \((\d+) of 100\)", out)
    assert accuracy is not None
    assert float(accuracy[1]) == int(accuracy[2]) >= 97
    speed = re.search(r"fastconv ([\d,]+) images/s, plain NumPy ([\d,]+) images/s: ([\d.]+) times as fast", out)
    assert speed is not None
    fast, plain = (int(figure.replace(",", "")) for figure in speed.groups()[:2])
    assert float(speed[3]) == pytest.approx(fast / plain, rel=0.01, abs=0.06)
    assert re.search(r"median of 8 epochs.*NumPy.s median of \d+ training steps", out)


def test_train_digits_by_default(capsys: Capture) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    assert main(["train"]) == 0
    accuracy = re.search(r"accuracy +([\d.]+)%", capsys.readouterr().out)
    assert accuracy is not None
    assert float(accuracy[1]) >= 97


def test_train_mnist_in_a_folder(tmp_path: Path, capsys: Capture) -> None:
    write_mnist(tmp_path)
    argv = ["train", "--data", "mnist", "--data-dir", str(tmp_path), "--epochs", "1"]
    assert main([*argv, "--model", "mlp"]) == 0
    assert "6 training and 3 test images of 1 x 28 x 28" in capsys.readouterr().out


def test_train_real_mnist(data_folder: Path, capsys: Capture) -> None:
    if not (data_folder / "mnist").is_dir():
        pytest.skip("FASTCONV_DATA holds no mnist")
    argv = ["train", "--data", "mnist", "--model", "lenet5", "--epochs", "3"]
    assert main([*argv, "--data-dir", str(data_folder)]) == 0
    accuracy = re.search(r"accuracy +([\d.]+)%", capsys.readouterr().out)
    assert accuracy is not None
    assert float(accuracy[1]) >= 98.5


def test_the_same_seed_gives_the_same_network(bars: Path, tmp_path: Path) -> None:
    for name, options in {
        "a": ["--seed", "5", "--threads", "1"],
        "b": ["--seed", "5", "--threads", "3"],
        "c": ["--seed", "6"],
    }.items():
        save = str(tmp_path / f"{name}.npz")
        assert main(["train", "--data", str(bars), "--epochs", "1", "--save", save, *options]) == 0
    a, b, c = (fc.load_model(tmp_path / f"{name}.npz").get_weights() for name in "abc")
    for first, same in zip(a, b, strict=True):
        assert_array_equal(first, same)
    assert not np.array_equal(a[0], c[0])


def test_threads_last_for_the_command_only(bars: Path) -> None:
    before = fc.get_num_threads()
    assert main(["train", "--data", str(bars), "--epochs", "1", "--threads", "3"]) == 0
    assert fc.get_num_threads() == before


def test_learning_rate_and_recipe_reach_the_model(bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    fit = fc.Sequential.fit

    def record(model: fc.Sequential, *arguments: Any, **options: Any) -> Any:
        seen.update(options, optimizer=model.optimizer)
        return fit(model, *arguments, **options)

    monkeypatch.setattr(fc.Sequential, "fit", record)
    argv = ["train", "--data", str(bars), "--model", "mlp"]
    assert main([*argv, "--lr", "0.5", "--optimizer", "nesterov", "--epochs", "2"]) == 0
    assert repr(seen["optimizer"]) == "SGD(learning_rate=0.5, momentum=0.9, nesterov=True)"
    assert seen["epochs"] == 2
    assert main(argv) == 0
    assert (seen["epochs"], seen["batch_size"]) == _options.OTHER_RECIPE
    assert seen["optimizer"].learning_rate == _options.METHODS["adam"].learning_rate


# --- a network of one's own ---


def model_file(folder: Path, text: str) -> str:
    path = folder / "net.py"
    path.write_text("import fastconv as fc\n" + text, encoding="utf-8")
    return str(path)


BUILDER = """
def build_model(input_shape, classes):
    return fc.Sequential([fc.Input(input_shape), fc.Flatten(), fc.Dense(classes)], seed=0)
"""


@pytest.mark.parametrize(
    "text",
    [
        BUILDER,
        "model = fc.Sequential([fc.Flatten(), fc.Dense(3)], seed=0)",
        "model = fc.Sequential([fc.Flatten(), fc.Dense(5, activation='softmax')], seed=0)",
    ],
    ids=["builder", "model", "more outputs than classes, softmax"],
)
def test_model_file(bars: Path, tmp_path: Path, capsys: Capture, text: str) -> None:
    argv = ["train", "--data", str(bars), "--model", model_file(tmp_path, text)]
    assert main([*argv, "--epochs", "20"]) == 0
    accuracy = re.search(r"accuracy +([\d.]+)%", capsys.readouterr().out)
    assert accuracy is not None
    assert float(accuracy[1]) >= 97


COMPILED = (
    BUILDER.replace("return", "model =")
    + """
    model.compile("sgd", fc.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model
"""
)


def test_compiled_model_file_keeps_its_optimizer(bars: Path, tmp_path: Path, capsys: Capture) -> None:
    argv = ["train", "--data", str(bars), "--epochs", "1"]
    argv += ["--model", model_file(tmp_path, COMPILED)]
    assert main(argv) == 0
    assert "SGD(learning_rate=0.01, momentum=0.0, nesterov=False)" in capsys.readouterr().out
    assert main([*argv, "--optimizer", "adam"]) == 0
    assert "Adam(" in capsys.readouterr().out


def test_a_layer_that_numpy_has_not(bars: Path, tmp_path: Path, capsys: Capture) -> None:
    text = """
class Twice(fc.layers.Layer):
    def forward(self, x, training=False):
        return 2 * x, lambda grad_y, input_grad=True: 2 * grad_y

model = fc.Sequential([Twice(), fc.Flatten(), fc.Dense(3)])
"""
    argv = ["train", "--data", str(bars), "--epochs", "1", "--model", model_file(tmp_path, text)]
    assert main(argv) == 0
    assert "speed      not compared: no plain NumPy version of Twice" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "to define model, a Sequential, or build_model"),
        ("model = 3", "received 3"),
        ("model = nonsense", "net.py, line 2: NameError: name 'nonsense' is not defined"),
        ("def broken(:", "net.py, line 2: SyntaxError"),
        ("def build_model(shape):\n    return None", "net.py: TypeError: build_model()"),
        ("\n\nraise RuntimeError('one\\ntwo')", "net.py, line 4: RuntimeError: one two"),
        ("def build_model(s, c):\n    return fc.Sequential([fc.Dense(-1)])", "line 3: ValueError"),
        ("model = fc.Sequential([fc.Flatten(), fc.Dense(2)])", "3 classes"),
        ("model = fc.Sequential([fc.Conv2D(3, 3)])", "3 classes"),
    ],
)
def test_model_file_mistakes(bars: Path, tmp_path: Path, capsys: Capture, text: str, message: str) -> None:
    path = model_file(tmp_path, text)
    assert message in fails(capsys, 1, "train", "--data", bars, "--model", path)


# --- evaluate, predict, info, bench ---


def test_evaluate(bars: Path, trained: Path, capsys: Capture) -> None:
    assert main(["evaluate", str(trained), "--data", str(bars)]) == 0
    assert re.fullmatch(r"accuracy   (9[7-9]|100)\.00% of the test images \(\d+ of 100\)\n", capsys.readouterr().out)


def test_predict(bars: Path, trained: Path, tmp_path: Path, capsys: Capture) -> None:
    argv = ["predict", str(trained), "--data", str(bars), "--batch-size", "7"]
    assert main(argv) == 0
    printed = [int(line) for line in capsys.readouterr().out.splitlines()]
    assert np.mean(printed == np.load(bars)["y_test"]) >= 0.97
    assert main([*argv, "--output", str(tmp_path / "labels.npy")]) == 0
    assert_array_equal(np.load(tmp_path / "labels.npy"), printed)
    assert main([*argv, "--output", str(tmp_path / "labels.csv")]) == 0
    header, *lines = (tmp_path / "labels.csv").read_text().splitlines()
    assert header == "index,label"
    assert lines == [f"{index},{label}" for index, label in enumerate(printed)]
    assert capsys.readouterr().out == ""
    np.save(tmp_path / "images.npy", np.load(bars)["x_test"][:5, 0])
    assert main(["predict", str(trained), "--data", str(tmp_path / "images.npy")]) == 0
    assert capsys.readouterr().out.split() == [str(label) for label in printed[:5]]


def test_predict_mnist(tmp_path: Path, capsys: Capture) -> None:
    write_mnist(tmp_path)
    mnist = ["--data", "mnist", "--data-dir", str(tmp_path)]
    save = str(tmp_path / "m.npz")
    assert main(["train", *mnist, "--model", "mlp", "--epochs", "1", "--save", save]) == 0
    capsys.readouterr()
    assert main(["predict", save, *mnist]) == 0
    assert len(capsys.readouterr().out.split()) == 3


def test_info(capsys: Capture) -> None:
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    fc.show_config()
    assert printed == capsys.readouterr().out != ""


def test_bench(capsys: Capture) -> None:
    assert main(["bench", "--threads", "1"]) == 0
    title, _, *rows, pointer = capsys.readouterr().out.splitlines()
    assert title == "Milliseconds a call, float32, fastconv with 1 thread."
    assert len(rows) == len(cli._bench.CASES)
    for row in rows:
        milliseconds, numpy_milliseconds, times = (float(figure) for figure in row.split()[-3:])
        assert times == pytest.approx(numpy_milliseconds / milliseconds, rel=0.1, abs=0.1)
    assert "python -m bench.kernels" in pointer


@pytest.mark.parametrize("case", cli._bench.CASES, ids=lambda case: case.title)
def test_bench_compares_the_same_numbers(case: Any) -> None:
    fast, plain = (cli._bench.call(module, case)() for module in (fc.ops, fc.reference))
    for a, b in zip(
        fast if isinstance(fast, tuple) else [fast],
        plain if isinstance(plain, tuple) else [plain],
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


# --- mistakes: status 2 for the command line itself, 1 for what it could not do ---


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["train", "--nonsense"], "--nonsense"),
        (["train", "--epochs", "0"], "--epochs: expected an integer of at least 1; received '0'"),
        (["train", "--epochs", "2.5"], "--epochs: expected an integer of at least 1"),
        (["train", "--batch-size", "-3"], "--batch-size: expected an integer of at least 1"),
        (["train", "--seed", "-1"], "--seed: expected an integer of at least 0; received '-1'"),
        (["train", "--lr", "0"], "--lr: expected a number above 0; received '0'"),
        (["train", "--lr", "nan"], "--lr: expected a number above 0; received 'nan'"),
        (["train", "--lr", "fast"], "--lr: expected a number above 0; received 'fast'"),
        (["train", "--optimizer", "rmsprop"], "invalid choice: 'rmsprop'"),
        (["train", "--threads", "0"], "--threads: expected an integer of at least 1"),
        (["train", "--threads", "1000000000"], "--threads: num_threads: expected 1 to"),
        (["train", "--data", "imagenet"], "--data: expected digits, mnist or a .npz file"),
        (["train", "--data-dir", "."], "--data-dir goes with --data mnist"),
        (["train", "--data", "d.npz", "--data-dir", "."], "--data-dir goes with --data mnist"),
        (["train", "--save", "model.h5"], "--save: expected a name that ends in .npz"),
        (["train", "--save", "no/such/m.npz"], "--save: expected a folder that can be written"),
        (["evaluate"], "MODEL.npz"),
        (["predict"], "MODEL.npz"),
        (["predict", "m.npz", "--output", "labels.txt"], "--output: expected a .npy or .csv file"),
        (["predict", "m.npz", "--data", "a.npy", "--data-dir", "."], "--data-dir goes with"),
        (["info", "--threads", "1"], "--threads"),
        (["bench", "--threads", "few"], "--threads: expected an integer"),
    ],
)
def test_usage_errors(capsys: Capture, argv: list[str], message: str) -> None:
    assert message in fails(capsys, 2, *argv)


def test_model_option_errors(bars: Path, capsys: Capture, tmp_path: Path) -> None:
    argv = ["train", "--data", bars]
    message = "--model: expected lenet5, mlp or a .py file; received 'resnet'"
    assert message in fails(capsys, 2, *argv, "--model", "resnet")
    own = model_file(tmp_path, BUILDER)
    assert "--seed goes with --model" in fails(capsys, 2, *argv, "--model", own, "--seed", "1")


def test_missing_and_damaged_files(
    bars: Path, trained: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FASTCONV_DATA", raising=False)
    junk = tmp_path / "junk.npz"
    junk.write_bytes(b"not an archive")
    none = tmp_path / "none.npz"
    assert "FASTCONV_DATA" in fails(capsys, 1, "train", "--data", "mnist")
    for argv in (
        ["train", "--data", none],
        ["evaluate", none],
        ["predict", trained, "--data", none],
        ["train", "--data", bars, "--model", tmp_path / "none.py"],
    ):
        assert "No such file or directory" in fails(capsys, 1, *argv)
    for argv in (["train", "--data", junk], ["evaluate", junk], ["predict", junk]):
        assert str(junk) in fails(capsys, 1, *argv)
    output = tmp_path / "no" / "labels.csv"
    assert "No such file" in fails(capsys, 1, "predict", trained, "--data", bars, "--output", output)


def test_data_that_do_not_fit(bars: Path, trained: Path, tmp_path: Path, capsys: Capture) -> None:
    other = tmp_path / "other.npz"
    np.savez(other, x=np.zeros((9, 3, 5, 5)), y=np.arange(9))
    assert "expected x of shape" in fails(capsys, 1, "evaluate", trained, "--data", other)
    assert "expected x of shape" in fails(capsys, 1, "predict", trained, "--data", other)
    np.savez(other, x=np.zeros((9, 3, 1, 5)), y=np.arange(9))
    assert "at least 2 x 2" in fails(capsys, 1, "train", "--data", other)
    np.savez(other, x=np.zeros((9, 4)), y=np.arange(9) - 1)
    assert "expected labels" in fails(capsys, 1, "train", "--data", other, "--model", "mlp")


def test_no_scikit_learn(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert 'pip install "fastconv[digits]"' in fails(capsys, 1, "train")


def test_a_loss_that_is_not_finite(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, x=np.full((40, 4), np.nan), y=np.arange(40) % 3)
    assert "epoch 1" in fails(capsys, 1, "train", "--data", path, "--model", "mlp")


def test_traceback_on_request(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        main(["evaluate", str(tmp_path / "none.npz"), "--traceback"])


# --- as a program ---


def test_version_and_help() -> None:
    assert run("--version").stdout == f"fastconv {fc.__version__}\n"
    done = run("--help")
    assert done.returncode == 0
    for command in ("train", "evaluate", "predict", "info", "bench"):
        assert re.search(rf"^    {command} ", done.stdout, re.MULTILINE)
        assert run(command, "--help").returncode == 0


def test_program_errors_have_no_traceback(tmp_path: Path) -> None:
    done = run("evaluate", str(tmp_path / "none.npz"))
    assert done.returncode == 1
    assert done.stderr == f"fastconv: error: {tmp_path}/none.npz: No such file or directory\n"
    assert done.stdout == ""


@posix
def test_a_closed_pipe_is_no_error(bars: Path, trained: Path, tmp_path: Path) -> None:
    images = tmp_path / "many.npy"
    np.save(images, np.zeros((60_000, 1, 8, 8), np.uint8))  # their lines overfill a pipe
    command = [sys.executable, "-m", "fastconv", "predict", str(trained), "--threads", "1", "--data", str(images)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() in ("0\n", "1\n", "2\n")
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 141


def test_a_full_disk_is_reported(bars: Path, trained: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    command = [sys.executable, "-m", "fastconv", "predict", str(trained), "--data", str(bars)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "fastconv: error: No space left on device\n"


@posix
def test_ctrl_c(bars: Path) -> None:
    argv = ["train", "--data", str(bars), "--model", "mlp", "--epochs", "1000000", "--threads", "1"]
    with subprocess.Popen(
        [sys.executable, "-m", "fastconv", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert any(line.startswith("epoch 1/") for line in process.stdout)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.stderr.read() == ""
        assert process.wait() == 130
