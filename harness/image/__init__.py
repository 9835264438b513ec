"""Making the initramfs before a boot."""
