"""The ground floor: front door, exit codes, supervisor, store. Imports nothing of Convoy's other floors."""

__version__ = "0.1.0"
