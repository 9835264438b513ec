"""The command line: parse arguments, call, print. Each command is thin."""

from harness.cli import bench, cells, layouts, machine, matrix, mutants, records
from harness.cli.app import app, main

__all__ = ["app", "bench", "cells", "layouts", "machine", "main", "matrix", "mutants", "records"]
