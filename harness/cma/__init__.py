"""What CMA says of itself on a guest, and the helper device."""
