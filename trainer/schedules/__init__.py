"""Schedules of the learning rate: names.py has a row for each."""
