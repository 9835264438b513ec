"""Many cells in one run: planned, run side by side, and kept in one record."""
