"""Which build runs: forced or chosen, told, and never changed in silence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from checks import run_python

import fastconv
from fastconv import _dispatch

USED = """
import sys, numpy as np, fastconv
from fastconv import _dispatch
for dtype in (np.float32, np.float64):
    fastconv.conv2d(np.ones((1, 1, 3, 3), dtype), np.ones((1, 1, 3, 3), dtype))
    fastconv.relu(np.ones(3, dtype))
packages = {name.split(".")[2] for name in sys.modules if name.startswith("fastconv._native.")}
print(_dispatch.isa, *sorted(packages - {"call", "cpu"}))
"""


@pytest.mark.parametrize("isa", _dispatch.ISAS)
def test_forced_build_is_the_only_one_loaded(isa: str) -> None:
    if isa not in _dispatch.available():
        pytest.skip(f"this processor or installation does not run {isa}")
    assert run_python(USED, FASTCONV_ISA=isa) == f"{isa} {isa}_f32 {isa}_f64"


def test_best_build_is_chosen() -> None:
    best = _dispatch.available()[0]
    assert best == next(isa for isa in _dispatch.ISAS if isa in _dispatch.available())
    assert run_python(USED, FASTCONV_ISA="") == f"{best} {best}_f32 {best}_f64"


def test_unknown_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTCONV_ISA", "AVX2")
    with pytest.raises(ImportError, match=r"expected one of avx512, avx2, baseline; received 'AVX2'"):
        _dispatch._choose()
    program = "try:\n    import fastconv\nexcept ImportError as error:\n    print(error)"
    assert "received 'sse9'" in run_python(program, FASTCONV_ISA="sse9")


@pytest.mark.parametrize(
    "command",
    [[sys.executable, "-m", "fastconv"], [str(Path(sys.executable).with_name("fastconv"))]],
    ids=["-m", "script"],
)
def test_unknown_build_on_the_command_line(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]}")
    done = subprocess.run(
        [*command, "info"], env={**os.environ, "FASTCONV_ISA": "sse9"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "fastconv: error: FASTCONV_ISA: expected one of avx512, avx2, baseline; received 'sse9'\n"


def test_build_that_this_processor_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor of the baseline alone: it gets that build, and an error where another is forced."""
    monkeypatch.setattr(_dispatch, "cpu", SimpleNamespace(supports=lambda isa: isa == "baseline"))
    monkeypatch.delenv("FASTCONV_ISA", raising=False)
    assert _dispatch.available() == ("baseline",)
    assert _dispatch._choose() == "baseline"
    for forced in ("avx2", "avx512"):
        monkeypatch.setenv("FASTCONV_ISA", forced)
        with pytest.raises(ImportError, match=rf"this processor, one of baseline; received '{forced}'"):
            _dispatch._choose()


def test_processor_below_every_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dispatch, "cpu", SimpleNamespace(supports=lambda isa: False))
    monkeypatch.delenv("FASTCONV_ISA", raising=False)
    with pytest.raises(ImportError, match="no build"):
        _dispatch._choose()


def test_build_that_does_not_load_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken means an error with the build's name, not another build."""
    monkeypatch.setattr(_dispatch, "isa", "broken")
    with pytest.raises(ImportError, match="broken_f32"):
        _dispatch.Kernels("conv2d")["f"]


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    with fastconv.num_threads(3):
        fastconv.show_config()
    shown = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    shown = {key: value.strip() for key, value in shown.items()}
    assert shown["fastconv"] == fastconv.__version__
    assert shown["isa"] == _dispatch.isa
    assert shown["available"].split(", ") == list(_dispatch.available())
    assert shown["threads"] == "3"
    assert shown["compiler"].split()[1][0].isdigit()  # a name and a version
    assert shown["python"] == ".".join(map(str, sys.version_info[:3]))


def test_import_changes_no_floating_point_mode() -> None:
    """Subnormal numbers and the rounding are as before, after the import and after work in a team."""
    program = """
import threading, numpy as np
def mode():
    one, tiny = np.ones(100, np.float32), np.full(100, 1e-40, np.float32)
    return [
        (tiny * one).tobytes(), (np.full(100, 1e-310) * np.ones(100)).tobytes(), 5e-324 * 1.0 > 0,
        (one / 3).tobytes(), (-one / 3).tobytes(), 1 / 3, np.geterr(),
    ]
before = mode()
import fastconv
assert mode() == before
x = np.ones((8, 16, 32, 32), np.float32)
with fastconv.num_threads(4):
    fastconv.conv2d(x, np.ones((16, 16, 3, 3), np.float32))
    fastconv.tanh(x)
assert mode() == before
after = []
thread = threading.Thread(target=lambda: after.append(mode()))
thread.start()
thread.join()
assert after == [before]
assert 5e-324 * 1.0 > 0
print("same")
"""
    assert run_python(program) == "same"


SPINS = """
import os, fastconv
print("OMP_WAIT_POLICY" in os.environ, os.environ.get("GOMP_SPINCOUNT"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="GCC's runtime")
@pytest.mark.parametrize(
    ("environment", "spins", "left"),
    [
        ({}, "4000", "False None"),
        ({"GOMP_SPINCOUNT": "77"}, "77", "False 77"),
        ({"OMP_WAIT_POLICY": "passive"}, "0", "True None"),
    ],
)
def test_waiting_threads_spin_shortly(environment: dict[str, str], spins: str, left: str) -> None:
    """The runtime says itself how long; the environment is what it was."""
    kept = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", SPINS],
        env={**kept, **environment, "OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == left
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("the runtime of this build is not GCC's")
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr
