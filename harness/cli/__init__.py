"""The command line: parse arguments, call, print. Each command is thin."""

from harness.cli import cells, layouts, machine, matrix, mutants, records
from harness.cli.app import app, main

__all__ = ["app", "cells", "layouts", "machine", "main", "matrix", "mutants", "records"]
