"""Which lines of the allocator a run executed: counters of gcov, and what is made of them."""
