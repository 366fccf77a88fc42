"""Losses of training: names.py has a row for each."""
