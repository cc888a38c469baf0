"""The command line: ``fastconv train | evaluate | predict | info | bench``.

Each command is a module with ``add_parser`` and ``run``. What goes wrong is one line on standard
error and an exit status: 2 for a command line that makes no sense, 1 for a command that fails, 130
for Ctrl-C, 141 for a closed pipe, as a shell reports a program killed by either signal.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from . import _bench, _evaluate, _info, _predict, _train
from ._options import UsageError, chosen_threads

__all__ = ["main"]

FAILURE, USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 128 + 2, 128 + 13


class _Parser(argparse.ArgumentParser):
    """Leaves a usage error to `main`, where every other error is printed too."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the program's name; by default those of the process.

    Returns
    -------
    int
        Exit status.

    Examples
    --------
    >>> main(["train", "--epochs", "0"])  # and a line on standard error
    2
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        options = _parser().parse_args(arguments)
        with chosen_threads(options):
            options.run(options)
        sys.stdout.flush()
    except UsageError as error:
        return _fail(error, USAGE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _flush_or_discard()
        return BROKEN_PIPE
    except (ArithmeticError, ImportError, MemoryError, OSError, TypeError, ValueError) as error:
        if "--traceback" in arguments:
            raise
        return _fail(error, FAILURE)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fastconv",
        description="Train and run convolutional networks on NumPy arrays.",
        epilog="fastconv COMMAND --help describes a command. Without options, fastconv train "
        "trains LeNet-5 on scikit-learn's handwritten digits.",
    )
    parser.add_argument("--version", action="version", version=f"fastconv {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (_train, _evaluate, _predict, _info, _bench):
        added = command.add_parser(commands)
        added.set_defaults(run=command.run)
        added.add_argument("--traceback", action="store_true", help="show where in the program an error arose")
    return parser


def _fail(error: Exception, status: int) -> int:
    message = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror is not None:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    _flush_or_discard()
    print("fastconv: error:", " ".join(message.split()), file=sys.stderr)
    return status


def _flush_or_discard() -> None:
    """Leave nothing in standard output that would fail, loudly, when the interpreter exits."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
