"""Data sets by name: names.py has a row for each source, opening.py opens it."""
