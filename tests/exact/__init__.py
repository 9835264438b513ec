"""Tests of the harness that take longer than CI allows: configs/nightly.toml runs them."""
