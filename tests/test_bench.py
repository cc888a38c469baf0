"""The benchmarks run, compare like with like, and leave a table, a JSON file and a plot."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checks import run_python
from numpy.typing import NDArray

from bench import (
    accuracy,
    environment,
    inference,
    networks,
    operators,
    overhead,
    peers,
    report,
    shapes,
    targets,
    timing,
    trainers,
    training,
)
from bench.shapes import ConvShape
from fastconv import ops, reference
from fastconv._call import Tape

PROJECT = Path(__file__).resolve().parent.parent

TINY = (
    ConvShape(2, 4, 6, 7, 6, 3, 3, padding=(1, 1)),
    ConvShape(2, 4, 7, 6, 6, 3, 2, stride=2, padding=(1, 0)),
    ConvShape(1, 4, 9, 9, 4, 3, 3, padding=(2, 2), groups=4, dilation=2),
)

TINY_NETWORK = networks.Network(
    "tiny",
    (2, 8, 8),
    (
        networks.Conv(3, 3, "same"),
        networks.Conv(4, 3),
        networks.Pool(),
        networks.Dense(5),
        networks.Dense(10, relu=False),
    ),
)

TINY_CHAIN = networks.Network(
    "tiny chain",
    (2, 9, 8),
    (networks.Conv(3, 3, "same"), networks.Conv(4, 3, "same", stride=2), networks.Mean(), networks.Dense(10, False)),
)

CONV_PEERS = (
    "fastconv",
    "numpy",
    "torch",
    "torch channels_last",
    "jax",
    "jax NHWC",
    "onnxruntime",
)
PREDICTORS = ("fastconv", "onnxruntime", "torch", "torch channels_last")
TRAINERS = ("fastconv", "numpy", "torch", "torch channels_last", "jax")


def run(module: str, *arguments: str) -> str:
    """Standard output of ``python -m module`` from the project's root."""
    command = [sys.executable, "-m", module, *arguments]
    finished = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


# The list of shapes


@pytest.mark.parametrize("shape", TINY, ids=lambda shape: shape.label)
def test_shape_arithmetic_is_the_library_s(shape: ConvShape) -> None:
    problem = peers.Problem.random(shape, "float32")
    y = reference.conv2d(problem.x, problem.weight, None, shape.stride, shape.padding, shape.dilation, shape.groups)
    assert y.shape == shape.output_shape
    assert shape.flops == 2 * y.size * shape.sum_length("forward")
    assert shape.elements == y.size + problem.x.size + problem.weight.size


def test_every_case_is_listed_once() -> None:
    cases = shapes.select("")
    assert len(cases) == len(set(cases))
    first_layers = [shape for shape in shapes.SHAPES if shape.c <= 3]
    assert len(cases) == 3 * len(shapes.SHAPES) - len(first_layers)


def test_filter_needs_every_word() -> None:
    assert {name for _, name in shapes.select("1x1 forward")} == {"forward"}
    assert all(shape.groups == shape.c for shape, _ in shapes.select("depthwise"))
    assert shapes.select("no such shape") == []


# Targets


def test_every_case_has_its_targets() -> None:
    wanted = {(shape, name): targets.of_convolution(shape, name) for shape, name in shapes.select("")}
    assert all(wanted[case][0].key == "ratio" for case in wanted)
    bounds = {(shape.label, name): [(t.key, t.bound) for t in found] for (shape, name), found in wanted.items()}
    assert bounds["64,64,16,16,64,3,3,1,1", "grad_weight"] == [("ratio", 1.3), ("peak_share", 0.7)]
    assert bounds["128,64,8,8,128,3,3,1,1", "forward"] == [("ratio", 1.3)]  # 64 pixels an image
    assert bounds["8,256,56,56,512,1,1,2,0", "grad_input"] == [("ratio", 1.0), ("peak_share", 0.8)]
    assert bounds["128,3,32,32,32,3,3,1,1", "forward"] == [("ratio", 1.0), ("peak_share", 0.55)]
    assert bounds["128,16,32,32,16,3,3,1,1", "forward"] == [("ratio", 1.0)]
    assert bounds["8,128,56,56,128,3,3,1,1 depthwise", "forward"] == [("ratio", 1.0), ("bandwidth_share", 0.7)]
    assert bounds["8,128,56,56,128,3,3,1,1 groups 32", "forward"] == [("ratio", 1.0)]


def test_every_network_has_its_targets() -> None:
    for network in networks.NETWORKS.values():
        assert [len(targets.of_training(network, size)) for size in (1, 32, 64, 128)] == [1, 1, 0, 1]
        assert all(targets.of_inference(network, size) for size in (1, 32, 128))


# Timing


def test_contenders_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SAMPLE_SECONDS", 0.0)  # one call a sample
    calls: list[str] = []
    contenders = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds, figures = timing.interleave(contenders, timing.Effort(rounds=3, seconds=9), probes={"probe": lambda: 2.0})
    rounds = "".join(calls).removeprefix("aaabbb")  # how long they take, then one uncounted call and one counted
    assert {rounds[i : i + 4] for i in range(0, len(rounds), 4)} == {"aabb", "bbaa"}
    assert len(rounds) == 12
    assert figures == {"probe": 2.0}
    assert set(seconds) == {"a", "b"}


def test_a_slow_contender_sits_out() -> None:
    calls: list[str] = []
    timing.interleave({"slow": lambda: calls.append("slow")}, timing.Effort(rounds=9, seconds=0.0))
    assert calls == ["slow"]


def test_threads_are_set_before_anything_is_imported(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os\nfrom bench import environment\nenvironment.relaunch_with_threads(2)\nprint(os.environ['NPROC'])\n"
    )
    finished = subprocess.run(
        [sys.executable, program],
        env={**os.environ, "PYTHONPATH": str(PROJECT), "NPROC": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stdout == "2\n"


# Contenders


@pytest.fixture(scope="module")
def conv_peers() -> tuple[dict[str, peers.Contender], dict[str, str]]:
    return peers.contenders(1)


@pytest.mark.parametrize("shape", TINY, ids=lambda shape: shape.label)
@pytest.mark.parametrize("name", CONV_PEERS)
def test_peer_computes_the_same_convolution(
    conv_peers: tuple[dict[str, peers.Contender], dict[str, str]], name: str, shape: ConvShape
) -> None:
    present, absent = conv_peers
    if name in absent:
        pytest.skip(f"{name} is not installed: {absent[name]}")
    problem = peers.Problem.random(shape, "float32")
    for pass_name, call in present[name].prepare(problem).items():
        result = present[name].to_numpy(call(), pass_name)
        assert accuracy.ErrorBound(problem, pass_name).share(result) < 2, pass_name


def test_error_bound_finds_one_wrong_element() -> None:
    problem = peers.Problem.random(TINY[0], "float32")
    bound = accuracy.ErrorBound(problem, "forward")
    result = reference.conv2d(problem.x, problem.weight, padding=1)
    assert bound.share(result) < 1
    result[1, 2, 3, 4] += 1e-3
    assert bound.share(result) > 10
    assert bound.share(result[:, :1]) == float("inf")


@pytest.mark.parametrize("network", [TINY_NETWORK, TINY_CHAIN], ids=lambda network: network.name)
def test_trainers_start_and_learn_alike(network: networks.Network) -> None:
    present, absent = trainers.contenders(1)
    assert {*present, *absent} == set(TRAINERS)
    assert {"fastconv", "numpy"} <= set(present)
    batch = networks.Batch.random(network, 6)
    steps = {name: trainer.prepare(network, batch) for name, trainer in present.items()}
    training.check_agreement(steps, "a tiny network")


@pytest.mark.parametrize("network", [TINY_NETWORK, TINY_CHAIN], ids=lambda network: network.name)
def test_predictors_agree(network: networks.Network) -> None:
    present, absent = inference.contenders(1)
    assert {*present, *absent} == set(PREDICTORS)
    x = networks.Batch.random(network, 3).x
    calls = {name: predictor.prepare(network, x) for name, predictor in present.items()}
    inference.check_agreement(calls, network.name)
    assert calls["fastconv"]().shape == (3, 10)


def test_disagreeing_trainer_is_refused() -> None:
    losses: NDArray[np.float64] = np.linspace(2.0, 1.0, training.CHECKED_STEPS)
    falling, rising = iter(losses), iter(4.0 - losses)
    steps = {"fastconv": lambda: float(next(falling)), "peer": lambda: float(next(rising))}
    with pytest.raises(ArithmeticError, match=r"expected peer to train it .* received loss 2"):
        training.check_agreement(steps, "it")


# Whole runs


def test_kernels_leave_table_and_json(tmp_path: Path) -> None:
    output = run(
        *("bench.kernels", "--quick", "--threads", "2", "--dtype", "float64"),
        *("--filter", "1,1,28,28,6,5,5,1,2", "--peers", "numpy", "--output", str(tmp_path)),
    )
    assert "threads:   2" in output
    row = next(line for line in output.splitlines() if line.startswith("1,1,28,28"))
    assert "forward" in row
    assert "no peer is installed" in output
    assert output.splitlines()[-1].startswith("targets: ")
    document = json.loads((tmp_path / "kernels-float64-2.json").read_text())
    assert document["environment"]["threads"] == 2
    assert [result["pass"] for result in document["results"]] == ["forward", "grad_weight"]
    for result in document["results"]:
        assert result["ms"] > 0
        assert result["numpy_ratio"] > 0
        assert result["error"] < 2


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--filter", "nonsense", "expected words of a case's name in --filter ; received 'nonsense'"),
        ("--peers", "toch", "in --peers ; received toch"),
    ],
)
def test_kernels_refuse_what_fits_nothing(option: str, value: str, message: str) -> None:
    command = [sys.executable, "-m", "bench.kernels", option, value]
    finished = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert finished.returncode == 1
    assert message in finished.stderr


@pytest.mark.parametrize("group", operators.GROUPS, ids=lambda group: group.__name__)
def test_operators_compute_what_pytorch_does(group: Callable[[Any], Iterator[operators.Case]]) -> None:
    torch = pytest.importorskip("torch")
    for case in group(torch):
        if case.elements < 10**6:
            operators.check_agreement(case)


def test_operators_leave_table_and_json(tmp_path: Path) -> None:
    output = run("bench.operators", "--quick", "--filter", "softmax 32,10", "--output", str(tmp_path))
    assert output.splitlines()[-1].startswith("targets: ")
    results = json.loads((tmp_path / "operators-1.json").read_text())["results"]
    assert [result["case"] for result in results] == ["32,10 forward", "32,10 backward", "32,10 cross-entropy"]
    for result in results:
        assert result["ms"] > 0
        assert result["bandwidth_share"] > 0


def test_training_leaves_table_and_json(tmp_path: Path) -> None:
    output = run(
        *("bench.training", "--quick", "--networks", "LeNet-5", "--batch-sizes", "1"),
        *("--output", str(tmp_path)),
    )
    assert "geometric mean against plain NumPy" in output
    assert output.splitlines()[-1].startswith("targets: ")
    (result,) = json.loads((tmp_path / "training-1.json").read_text())["results"]
    assert result["rates"].keys() >= {"fastconv", "numpy"}
    assert result["images_per_second"] == result["rates"]["fastconv"] > 0


def test_overhead_prints_every_operator_and_leaves_json(tmp_path: Path) -> None:
    lines = run("bench.overhead", "--quick", "--output", str(tmp_path)).splitlines()
    results = json.loads((tmp_path / "overhead-1.json").read_text())["results"]
    rows = {result["what"]: result for result in results}
    assert set(ops.__all__) < set(rows)
    for name in (*ops.__all__, "one image, model(x)", "second step of 128 images, allocated"):
        assert any(line.startswith(name) for line in lines)
        assert rows[name]["holds"] == (rows[name]["figure"] <= rows[name]["target"])
    judged = [result["holds"] for result in results if result["holds"] is not None]
    assert lines[-1].startswith(f"targets: {sum(judged)} of {len(judged)} hold")


@pytest.mark.parametrize("name", ops.__all__)
def test_kernels_of_a_call_are_all_of_it(name: str) -> None:
    """Run by themselves they fill the arrays of the call with the same bits."""
    call = overhead.calls()[name]
    with Tape() as tape:
        call()
    assert tape.complete
    filled = [a.copy() for _, arguments in tape.calls for a in arguments if isinstance(a, np.ndarray)]
    assert filled
    if not name.endswith("_update"):  # which go on from where they are
        overhead.kernels_of(call)()
        for kernel, arguments in tape.calls:
            kernel(*arguments)
        again = [a for _, arguments in tape.calls for a in arguments if isinstance(a, np.ndarray)]
        assert all(map(np.array_equal, again, filled))


SECOND_STEP = """
from bench.overhead import page_faults
from bench.networks import NETWORKS, Batch
from bench.trainers import FastconvTrainer
network = NETWORKS["LeNet-5"]
step = FastconvTrainer().prepare(network, Batch.random(network, 128))
for _ in range(3):
    before = page_faults()
    step()
    print(page_faults() - before, end=" ")
"""


def test_second_step_touches_no_new_memory() -> None:
    """An array of the first layer alone has 588 pages; what Python touches is a few."""
    pytest.importorskip("resource", reason="counts page faults as Unix does")
    first, *later = map(int, run_python(SECOND_STEP, PYTHONPATH=str(PROJECT), OMP_NUM_THREADS="1").split())
    assert first > max(later)
    assert max(later) < 200


def test_inference_leaves_table_and_json(tmp_path: Path) -> None:
    output = run(
        *("bench.inference", "--quick", "--networks", "LeNet-5", "--batch-sizes", "1", "2"),
        *("--output", str(tmp_path)),
    )
    assert output.splitlines()[-1].startswith("targets: ")
    results = json.loads((tmp_path / "inference-1.json").read_text())["results"]
    assert [result["batch"] for result in results] == [1, 2]
    assert all(result["us"] > 0 for result in results)


def test_predictor_that_computes_something_else_is_refused() -> None:
    calls = {"fastconv": lambda: np.ones(3), "peer": lambda: np.full(3, np.nan)}
    with pytest.raises(ArithmeticError, match=r"expected peer to compute it .* that are nan away"):
        inference.check_agreement(calls, "it")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's peak of memory")
def test_memory_leaves_table_and_json(tmp_path: Path) -> None:
    output = run("bench.memory", "--network", "LeNet-5", "--batch-size", "64", "--output", str(tmp_path))
    assert output.splitlines()[-1].startswith("targets: ")
    results = json.loads((tmp_path / "memory-1.json").read_text())["results"]
    # LeNet-5's largest result alone has 6 * 28 * 28 numbers an image.
    assert all(result["megabytes"] > 64 * 6 * 28 * 28 * 4 / 1e6 for result in results)


def test_import_time_prints_both_figures() -> None:
    lines = run("bench.import_time", "--rounds", "1").splitlines()
    assert [line.split(":")[0] for line in lines] == ["import numpy", "import fastconv"]


def test_plot_or_a_word_about_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plot.png"
    report.write_plot(path, "t", {"p": ["a", "b"]}, {"one": {"p": [1.0, None]}}, "axis", mark=1.0)
    said = capsys.readouterr().out
    assert path.exists() == ("written" in said)
    assert path.exists() or "fastconv[bench]" in said


def test_missing_matplotlib_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    report.write_plot(tmp_path / "plot.png", "t", {"p": ["a"]}, {"one": {"p": [1.0]}}, "axis")
    assert 'pip install "fastconv[bench]"' in capsys.readouterr().out
    assert not (tmp_path / "plot.png").exists()


def test_versions_name_absent_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PACKAGES", ("numpy", "no-such-package"))
    assert environment.versions()["no-such-package"] == "absent"
    assert environment.versions()["numpy"] == np.__version__
