"""The type stubs of the compiled modules agree with the modules (mypy's stubtest)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastconv import _dispatch

SOURCES = Path(__file__).parent.parent / "src" / "fastconv"
STUBS = sorted(SOURCES.glob("*.pyi"))
ONCE = {"call", "cpu"}  # built once, for the baseline; all others once for each build


def test_every_kernel_has_a_stub() -> None:
    assert [stub.stem for stub in STUBS] == sorted(source.stem for source in SOURCES.glob("*.pyx"))


def test_stubs_agree_with_the_compiled_modules(tmp_path: Path) -> None:
    # The stubs stand beside the sources and are installed into every build: lay them out as one build.
    pytest.importorskip("mypy", reason="stubtest comes with mypy, of the test extra")
    build = f"{_dispatch.isa}_f32"
    package = tmp_path / "fastconv" / "_native" / build
    package.mkdir(parents=True)
    (package / "__init__.pyi").write_text("COMPILER: str\nFLAGS: str\nDEBUG: bool\n")
    for parent in (package.parent, package.parent.parent):
        (parent / "__init__.pyi").write_text("")
    modules = []
    for stub in STUBS:
        folder = package.parent if stub.stem in ONCE else package
        shutil.copy(stub, folder / stub.name)
        modules.append(
            f"fastconv._native.{stub.stem}" if stub.stem in ONCE else f"fastconv._native.{build}.{stub.stem}"
        )
    allowed = tmp_path / "allowed"
    allowed.write_text(r".*\.__test__|.*\.__pyx_capi__|.*\.__doc__" + "\n")
    run = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "--allowlist", str(allowed), "--ignore-unused-allowlist", *modules],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(tmp_path)},
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
