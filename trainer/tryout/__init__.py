"""`convoy try`: a page on this machine, where a run's model says what it sees in a photograph."""
