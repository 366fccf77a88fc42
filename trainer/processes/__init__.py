"""The processes that share a run, and the signals that end it."""
