"""A running cell: QEMU, its console, ssh and QMP."""
