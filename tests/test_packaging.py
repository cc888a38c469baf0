"""The project's metadata agrees with itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import fastconv

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def metadata() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib", reason="reading TOML takes Python 3.11")
    result: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    return result


def test_the_build_group_has_what_the_build_needs(metadata: dict[str, Any]) -> None:
    requires = set(metadata["build-system"]["requires"])
    group = set(metadata["dependency-groups"]["build"])
    assert requires <= group
    # The rest is what the backend fetches by itself in an isolated build.
    assert {re.split("[><=]", name)[0] for name in group - requires} == {"cmake", "ninja"}


def test_one_version(metadata: dict[str, Any]) -> None:
    assert fastconv.__version__ == metadata["project"]["version"]
