"""The programs that are measured, as their libraries' documentation teaches them. Not one knows of the stack."""
