"""One run, from flags to result."""
