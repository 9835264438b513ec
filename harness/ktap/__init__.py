"""KTAP and TAP text to a tree of results; no I/O, no printing."""

from harness.ktap.parser import Parser, parse
from harness.ktap.tree import Case, Metric, Report, Span

__all__ = ["Case", "Metric", "Parser", "Report", "Span", "parse"]
