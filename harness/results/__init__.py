"""One record of a run on disk."""
