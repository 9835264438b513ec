"""A layout on a board's physical memory, before any boot: map, check, drawing, import."""
