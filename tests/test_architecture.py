"""The picture of docs/architecture.md, held to the imports that the files really have: arrows only go down."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest
from checks import run_python

import fastconv

PACKAGE = Path(fastconv.__file__).parent
KERNELS = Path(__file__).parent.parent / "src" / "fastconv"

# From the bottom up. A module imports from the levels below its own; on one level none knows another.
LEVELS = [
    {"_native", "_config", "_npz", "_shapes", "reference"},
    {"_call", "_dispatch", "_idx"},
    {"_algorithm", "_validation"},
    {"_threads", "data", "graph", "regularizers", "schedules"},
    {"ops"},
    {"initializers", "losses", "optimizers"},
    {"layers", "metrics"},
    {"gradcheck", "training"},
    {"models", "numpy_baseline"},
    {"fastconv"},  # the public names
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
DISPATCHERS = {"ops", "_threads", "fastconv"}
EXTRAS = {"sklearn", "tqdm"}  # imported where they are used


class Import(NamedTuple):
    importer: str  # a dotted module
    imported: str  # a dotted module, perhaps with a name in it
    at_load: bool  # not inside a function or under TYPE_CHECKING


def dotted(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def unit(module: str) -> str:
    """Give the part of the picture that a module belongs to: ``fastconv.layers.conv`` to ``layers``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LEVEL else "fastconv"


@cache
def trees() -> dict[str, ast.Module]:
    files = [file for file in PACKAGE.rglob("*.py") if "_native" not in file.parts]
    return {dotted(file): ast.parse(file.read_text(encoding="utf-8")) for file in files}


def walk(node: ast.AST, at_load: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        )
        yield child, at_load
        yield from walk(child, at_load and not lazy)


@cache
def imports() -> list[Import]:
    """List every import of the package, absolute and relative ones alike."""
    found = []
    for module, tree in trees().items():
        is_package = (PACKAGE.parent.joinpath(*module.split("."))).is_dir()
        package = module.split(".") if is_package else module.split(".")[:-1]
        for node, at_load in walk(tree):
            if isinstance(node, ast.Import):
                found += [Import(module, alias.name, at_load) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                source = ".".join([*base, *([node.module] if node.module else [])])
                found += [Import(module, f"{source}.{alias.name}", at_load) for alias in node.names]
    return found


def inner() -> list[tuple[str, str]]:
    """List the arrows of the picture: from one part of the package to another."""
    arrows = {(unit(i.importer), unit(i.imported)) for i in imports() if i.imported.split(".")[0] == "fastconv"}
    return sorted((a, b) for a, b in arrows if a != b)


def test_picture_has_every_module() -> None:
    modules = {unit(module) for module in trees()} | {"_native"}
    assert {module.split(".")[1] for module in trees() if "." in module} <= set(LEVEL)
    assert modules == set(LEVEL)
    assert len(inner()) > 20  # the imports were found


def test_arrows_go_down() -> None:
    up = [f"{a} imports {b}" for a, b in inner() if LEVEL[a] <= LEVEL[b]]
    assert not up


def test_no_module_imports_itself_in_a_circle() -> None:
    """Also inside a package, at load time; a package's own ``__init__`` only gathers."""
    modules = set(trees())
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for importer, imported, at_load in imports():
        target = imported if imported in modules else imported.rpartition(".")[0]
        if at_load and target in modules and not importer.startswith(f"{target}."):
            graph[importer].add(target)
    TopologicalSorter(graph).prepare()


def test_only_ops_know_the_dispatch() -> None:
    assert {a for a, b in inner() if b == "_dispatch"} <= DISPATCHERS
    assert ("ops", "_dispatch") in inner()


def names_a_build(tree: ast.Module) -> bool:
    """Whether an import or any other code does; a docstring may explain."""
    documented = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docstrings = {ast.get_docstring(node, clean=False) for node in documented}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if text not in docstrings and "_native" in text:
                return True
            case ast.alias(name=text) | ast.ImportFrom(module=str(text)) | ast.Attribute(attr=text) if (
                "_native" in text
            ):
                return True
    return False


def test_only_the_dispatch_names_a_build() -> None:
    """`_call` names the one compiled module that every build shares."""
    assert {module for module, tree in trees().items() if names_a_build(tree)} == {
        "fastconv._call",
        "fastconv._dispatch",
    }
    names = [i.imported for i in imports() if i.importer == "fastconv._call" and "_native" in i.imported]
    assert all(f"{name}.".startswith("fastconv._native.call.") for name in names)


def test_reference_imports_numpy_alone() -> None:
    roots = {i.imported.split(".")[0] for i in imports() if unit(i.importer) == "reference"}
    assert roots - sys.stdlib_module_names == {"numpy", "fastconv"}
    assert not [b for a, b in inner() if a == "reference"]


def test_core_needs_numpy_alone() -> None:
    """Extras are imported inside the function that needs them."""
    foreign = [i for i in imports() if i.imported.split(".")[0] not in sys.stdlib_module_names | {"numpy", "fastconv"}]
    assert not [i for i in foreign if i.at_load]
    assert {i.imported.split(".")[0] for i in foreign} <= EXTRAS
    program = """
import sys
import numpy
before = set(sys.modules)
import fastconv
print(*{name.split(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)
"""
    loaded = {name for name in run_python(program).split() if "cython" not in name and "editable" not in name}
    assert loaded == {"fastconv", "numpy"}  # numpy: more of its own modules


# --- the kernels ---------------------------------------------------------------------------------

FOUNDATION = [{"simd"}, {"geometry", "parallel", "plane", "row", "tile"}, {"gathered", "product"}]


def cimports(file: Path) -> set[str]:
    text = file.read_text(encoding="utf-8")
    return set(re.findall(r"^\s*(?:from\s+fastconv\.|cimport\s+fastconv\.)(\w+)", text, re.MULTILINE))


@pytest.mark.skipif(not KERNELS.is_dir(), reason="the sources of the kernels are not beside the tests")
class TestKernels:
    def test_foundation_is_what_the_picture_says(self) -> None:
        assert {file.stem for file in KERNELS.glob("*.pxd")} - {"__init__"} == set().union(*FOUNDATION)
        for level, names in enumerate(FOUNDATION):
            below = set().union(*FOUNDATION[:level])
            for name in names:
                assert cimports(KERNELS / f"{name}.pxd") <= below, name

    def test_no_operator_knows_another(self) -> None:
        operators = sorted(KERNELS.glob("*.pyx"))
        assert len(operators) > 7
        for file in operators:
            assert cimports(file) <= set().union(*FOUNDATION), file.name
            assert not re.search(
                r"^\s*(import|from) fastconv", re.sub(r".*cimport.*", "", file.read_text()), re.MULTILINE
            )
        assert "simd" in cimports(KERNELS / "conv2d.pyx")

    def test_a_part_belongs_to_one_operator(self) -> None:
        """An included file is a chapter of one operator, not a way to share."""
        included = [
            name
            for file in KERNELS.iterdir()
            if file.suffix in (".pyx", ".pxd", ".pxi")
            for name in re.findall(r'^include "(.+)"', file.read_text(encoding="utf-8"), re.MULTILINE)
        ]
        assert sorted(included) == sorted(file.name for file in KERNELS.glob("*.pxi"))

    def test_micro_kernels_are_inlined(self) -> None:
        """A cimported function that is not inline is bound by module name at run time: another build's code."""
        for file in KERNELS.glob("*.pxd"):
            functions = re.findall(
                r"^(cdef|cpdef|ctypedef)\b(?! extern| struct| enum| packed)(.*\()", file.read_text(), re.MULTILINE
            )
            for kind, rest in functions:
                assert kind == "ctypedef" or rest.strip().startswith("inline"), f"{file.name}: {rest}"
