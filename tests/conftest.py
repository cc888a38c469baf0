"""What every test may use: which build runs, where real data lies, how Hypothesis draws."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import fastconv
from fastconv import _dispatch

# The same examples in every run, so that a failure is a change of the code; look for new ones
# with HYPOTHESIS_PROFILE=explore.
settings.register_profile("ci", derandomize=True, deadline=None, database=None, max_examples=200)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_report_header() -> str:
    return f"fastconv build: {_dispatch.isa}, {fastconv.get_num_threads()} threads"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of real data sets, named by the variable FASTCONV_DATA."""
    folder = os.environ.get("FASTCONV_DATA")
    if not folder:
        pytest.skip("FASTCONV_DATA names no folder of data sets")
    return Path(folder)


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """Compute with one thread: more change no bit, as test_threads shows, and are slower on small arrays."""
    with fastconv.num_threads(1):
        yield


@pytest.fixture(autouse=True)
def _keep_num_threads() -> Iterator[None]:
    """Give each test the number of threads the session started with."""
    before = fastconv.get_num_threads()
    yield
    fastconv.set_num_threads(before)
