"""The command line: parse arguments, call, print. Each command is thin."""

from harness.cli import ab, bench, cells, layouts, machine, matrix, mutants, records, study
from harness.cli.app import app, main

__all__ = [
    "ab",
    "app",
    "bench",
    "cells",
    "layouts",
    "machine",
    "main",
    "matrix",
    "mutants",
    "records",
    "study",
]
