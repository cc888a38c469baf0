"""The wheel as users get it: built, installed where no compiler is, with NumPy alone, and used."""

import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
MAX_BYTES = 3_000_000

# Everything a first user does: an operator with a known result, then training that must learn.
PROGRAM = textwrap.dedent(
    """
    import sys
    import numpy as np
    import fastconv as fc

    assert fc.__file__.startswith(sys.prefix), fc.__file__
    image = np.array(
        [[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]],
        dtype=np.float32,
    )
    kernel = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], dtype=np.float32)
    y = fc.conv2d(image[None, None], kernel[None, None])
    assert y.tolist() == [[[[4, 3, 4], [2, 4, 3], [2, 3, 4]]]], y

    rng = np.random.default_rng(0)
    x = rng.random((256, 1, 8, 8), dtype=np.float32)
    labels = np.arange(256) % 2
    x[labels == 1, :, :, 4:] += 1  # the right half is brighter
    model = fc.Sequential(
        [
            fc.Conv2D(4, 3, padding="same", activation="relu"),
            fc.MaxPool2D(2),
            fc.Flatten(),
            fc.Dense(2),
        ],
        seed=0,
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, labels, batch_size=32, epochs=20, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0], history["loss"]
    print("trained")
    """
)


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Return a command's output; a failure shows all that it wrote."""
    words = list(map(str, command))
    finished = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if finished.returncode:
        pytest.fail(f"{' '.join(words)}\n{finished.stdout}\n{finished.stderr}")
    return finished.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, PROJECT / "tools" / "wheel.py", folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def clean_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a fresh environment that holds the wheel and what it asks for: NumPy."""
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", folder)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / ("python.exe" if os.name == "nt" else "python")
    run(python, "-m", "pip", "install", "--only-binary=:all:", wheel, env=bare(scripts, keep="PIP"))
    return python


def bare(scripts: Path, keep: str = "FASTCONV_ISA") -> dict[str, str]:
    """An environment in which no compiler can be found or asked for."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(keep)}
    needed = {name: os.environ[name] for name in ("HOME", "SYSTEMROOT") if name in os.environ}
    return {**needed, **kept, "PATH": str(scripts), "CC": "/bin/false", "CXX": "/bin/false"}


def test_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size <= MAX_BYTES


def test_holds_what_users_need_and_no_source(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "fastconv/py.typed" in names
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if name.endswith((".c", ".pyx", ".pxd", ".h"))]
    tops = {name.split("/")[0] for name in names}
    assert {name for name in tops if "." not in name} == {"fastconv"}, tops


@pytest.mark.skipif(sys.platform != "linux", reason="manylinux is Linux's")
def test_carries_its_openmp_runtime_and_a_manylinux_tag(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.startswith("fastconv.libs/libgomp") for name in names)
    assert "manylinux" in wheel.name


def test_needs_numpy_alone(clean_python: Path) -> None:
    lines = run(clean_python, "-m", "pip", "list", "--format=freeze").splitlines()
    assert {line.split("==")[0] for line in lines} - {"pip", "setuptools"} == {"fastconv", "numpy"}


def test_trains_where_no_compiler_is(clean_python: Path, tmp_path: Path) -> None:
    environment = bare(clean_python.parent)
    assert run(clean_python, "-I", "-c", PROGRAM, cwd=tmp_path, env=environment) == "trained\n"


def test_command_line_is_installed(clean_python: Path, tmp_path: Path) -> None:
    environment = bare(clean_python.parent)
    output = run(clean_python.parent / "fastconv", "info", cwd=tmp_path, env=environment)
    assert "fastconv" in output
