"""The program: its name, its exit codes, and the signals that end it."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

import typer

from harness.errors import HarnessError
from harness.verdict import EXIT_INTERRUPTED

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def _program() -> None:
    """The test bench for Linux's Contiguous Memory Allocator on 32-bit ARM."""
    # typer drops the command's name where an app has one command and no callback.


def main() -> None:
    """Run the command line; every intended error is one message and its exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        app()
    except HarnessError as error:
        print(f"cma-harness: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("cma-harness: interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def _interrupt(number: int, frame: object) -> NoReturn:
    """Treat the signals by which others end us as Ctrl-C: what is finished is kept."""
    del number, frame
    raise KeyboardInterrupt
