"""``fastconv info``: which build runs here, with how many threads."""

from __future__ import annotations

import argparse
from typing import Any

from .. import show_config


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "info",
        help="show the build, the processor and the threads",
        description="Show which build of the kernels this processor runs, and with what. The "
        "environment variable FASTCONV_ISA=baseline|avx2|avx512 forces one.",
    )
    return parser


def run(options: argparse.Namespace) -> None:
    """Print the configuration."""
    show_config()
