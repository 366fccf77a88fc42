"""The flags of a run, a module for each of their subjects. convoy.trainer.config makes one object of them.

Each dataclass has its flags in the order of --help, and what they say by themselves. Imports nothing heavy.
"""
