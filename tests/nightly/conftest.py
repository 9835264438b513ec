"""What takes longer than CI allows; `make nightly` runs it, `make nightly PART=…` a part of it."""

from ..line.conftest import run, start

__all__ = ["run", "start"]
