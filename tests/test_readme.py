"""The README keeps its word: its Python blocks run, its commands and its links exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import fastconv as fc
from fastconv.cli import main

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md"))


def blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def test_the_readme_has_both_examples() -> None:
    calls, trains = blocks(ROOT / "README.md")
    assert "fc.conv2d(" in calls
    assert "model.fit(" in trains


def test_calling_functions() -> None:
    names: dict[str, object] = {}
    exec(blocks(ROOT / "README.md")[0], names)
    assert names["pooled"].shape == (8, 16, 16, 16)  # type: ignore[attr-defined]
    assert names["grad_weight"].shape == (16, 3, 5, 5)  # type: ignore[attr-defined]


def test_training() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    names: dict[str, float] = {}
    fc.set_num_threads(1)
    exec(blocks(ROOT / "README.md")[1], names)
    assert names["accuracy"] >= 0.97


def test_the_first_commands_are_make_train_and_make_test() -> None:
    commands = re.findall(r"^    (\S.*?)(?:  +#.*)?$", (ROOT / "README.md").read_text("utf-8"), re.M)
    assert commands[:2] == ["make train", "make test"]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert {"train", "test"} <= set(targets)


@pytest.mark.parametrize(
    "line",
    re.findall(r"^    (fastconv .*)$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE),
)
def test_its_command_lines_have_options_that_exist(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    command, *arguments = shlex.split(line)[1:]
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    options = capsys.readouterr().out
    assert all(option in options for option in arguments if option.startswith("-"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(document: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(\s*([^)#:]+?)\s*\)", prose):
        assert (document.parent / target).exists(), target
