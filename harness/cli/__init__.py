"""The command line: parse arguments, call, print. Each command is thin."""

from harness.cli import ab, bench, bisect, cells, layouts, machine, matrix, mutants, records, study
from harness.cli.app import app, main

__all__ = [
    "ab",
    "app",
    "bench",
    "bisect",
    "cells",
    "layouts",
    "machine",
    "main",
    "matrix",
    "mutants",
    "records",
    "study",
]
