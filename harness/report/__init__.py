"""Drawings of a stored record: terminal, JUnit, HTML."""
