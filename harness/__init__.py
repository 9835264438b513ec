"""cma-harness: the test bench for Linux's Contiguous Memory Allocator on 32-bit ARM."""
