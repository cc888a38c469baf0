"""The pages of the course keep their word: their code runs, prints what they say, and their pictures are small."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
from pathlib import Path

import pytest

import fastconv as fc

COURSE = Path(__file__).parents[1] / "docs" / "course"
PAGES = sorted(COURSE.glob("[0-9][0-9]-*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
"""A block of code and, where one follows, what it prints."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_prints_what_the_page_shows(page: Path) -> None:
    text = page.read_text("utf-8")
    for word, module in (("sklearn", "sklearn"), ("load_sample_image", "PIL")):
        if word in text:
            pytest.importorskip(module)
    blocks = BLOCK.findall(text)
    assert blocks
    fc.set_num_threads(1)
    names: dict[str, object] = {"__name__": page.stem}
    for code, shown in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(page), "exec"), names)
        same = doctest.OutputChecker().check_output(shown, printed.getvalue(), doctest.NORMALIZE_WHITESPACE)
        assert same, f"{code}\nprints\n{printed.getvalue()}\nand the page shows\n{shown}"


def test_the_index_lists_every_page_in_order() -> None:
    listed = re.findall(r"\]\((\d\d-[^)]*\.md)\)", (COURSE / "README.md").read_text("utf-8"))
    assert listed == [page.name for page in PAGES]


def test_every_picture_is_shown_and_small() -> None:
    pictures = sorted((COURSE / "images").iterdir())
    shown = {name for page in PAGES for name in re.findall(r"\]\(images/([^)]+)\)", page.read_text("utf-8"))}
    assert shown == {picture.name for picture in pictures}
    sizes = [picture.stat().st_size for picture in pictures]
    assert max(sizes) < 60_000
    assert sum(sizes) < 600_000


def test_the_picture_of_the_graph_is_what_the_library_draws() -> None:
    a, b, c = (fc.graph.variable(value, name) for value, name in ((5, "a"), (3, "b"), (2, "c")))
    end = 3 * (a + b * c)
    end.backward()
    assert (COURSE / "images" / "04-graph.svg").read_text("utf-8") == fc.graph.picture(end)
