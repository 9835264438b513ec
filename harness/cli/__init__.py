"""The command line: parse arguments, call, print. Each command is thin.

Each module here has some of the commands. A run imports only the one that it was asked for: all of
them take a third of a second more than `test` alone.
"""

from __future__ import annotations

import sys
from importlib import import_module

from harness.cli import app

HOMES = {
    "build": "cells",
    "test": "cells",
    "console": "cells",
    "ssh": "cells",
    "gdb": "cells",
    "nightly": "matrix",
    "study": "study",
    "ab": "ab",
    "bisect": "bisect",
    "bisect-step": "bisect",
    "mutants": "mutants",
    "bench": "bench",
    "layout": "layouts",
    "parse": "records",
    "report": "records",
    "coverage": "records",
    "doctor": "machine",
    "cache": "machine",
}
"""The module of each command, in the order of --help."""


def load(words: list[str]) -> None:
    """Import the module of the command that begins the line; all of them if none does."""
    known = HOMES.get(words[0]) if words else None
    for module in [known] if known else dict.fromkeys(HOMES.values()):
        import_module(f"{__name__}.{module}")


def main() -> None:
    """Run the command line of this process."""
    load(sys.argv[1:])
    app.main()
