"""The claims of the literature (harness/studies/) on the cell's kernel; the nightly runs them."""
