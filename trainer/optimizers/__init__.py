"""Optimizers by name: names.py has a row for each."""
