"""Kernels broken on purpose: whether the suites notice each small breakage of the allocator."""
