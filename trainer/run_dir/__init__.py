"""What stands in a run directory, read with the care that a stranger's files need."""
