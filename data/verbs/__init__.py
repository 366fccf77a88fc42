"""Commands: their flags and the parent process."""
