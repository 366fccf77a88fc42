"""Commands: their flags and the parent process; nothing heavy is imported."""
