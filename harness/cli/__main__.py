"""`python -m harness.cli` is `cma-harness`."""

from harness.cli import main

main()
