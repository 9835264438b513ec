"""KTAP and TAP text to a tree of results; no I/O, no printing."""
