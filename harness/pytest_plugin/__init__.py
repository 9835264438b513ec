"""On-target tests are pytest tests: this plugin prepares the cell, collects, judges and records.

`cma-harness test` is pytest with this plugin; `pytest -p harness.pytest_plugin` is the same. It
adds one item for the layout (whether the kernel honoured it), one item for each KUnit case of a
module (known before the guest boots, out of the .ko), those of a user's own modules, and the
fixtures `guest`, `helper` and `cell` for tests in Python.

With pytest-xdist's -n each worker has a guest of its own; the controller prepares the cell and
keeps the record.
"""

_PARTS = ("run", "kunit", "external", "versions", "order", "fixtures", "judging", "hypotheses")
pytest_plugins = tuple(f"harness.pytest_plugin.{part}" for part in _PARTS)
