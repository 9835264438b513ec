"""How long things take beside how long others take for the same: ratios, measured side by side.

Times of one run are compared with each other alone; hosts are noisy. The rival is the kernel
tree's own tools/testing/kunit/kunit.py, on the same kernel, QEMU and machine.
"""
