"""Every build that this processor can run passes the same tests as the session's own.

A process loads one build, so each of the others gets a process of its own, side by side, in which the table of
operators and the tests of its numbers run again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastconv import _dispatch

TESTS = Path(__file__).parent
FILES = [f"test_{name}.py" for name in ("operators", "bounds", "threads", "accuracy", "properties", "winograd")]
OTHERS = [isa for isa in _dispatch.available() if isa != _dispatch.isa]


@pytest.fixture(scope="module")
def sessions() -> Iterator[dict[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=short"]
    running = {
        isa: subprocess.Popen(
            [*command, *(TESTS / file for file in FILES)],
            cwd=TESTS.parent,
            env={**os.environ, "FASTCONV_ISA": isa},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for isa in OTHERS
    }
    yield running
    for session in running.values():
        session.kill()
        session.communicate()


@pytest.mark.parametrize("isa", _dispatch.ISAS)
def test_build(isa: str, sessions: dict[str, subprocess.Popen[str]]) -> None:
    if isa == _dispatch.isa:
        pytest.skip(f"{isa} is the build of this session")
    if isa not in OTHERS:
        pytest.skip(f"this processor or installation does not run {isa}")
    output, _ = sessions[isa].communicate(timeout=1200)
    assert f"fastconv build: {isa}," in output, output
    assert sessions[isa].returncode == 0, output[output.find("= FAILURES") :]
