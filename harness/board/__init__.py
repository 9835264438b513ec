"""Making a board before a boot: its base tree, the layout's overlay, the checked .dtb."""
