"""Packed records: their format, packing them, and a bucket's copy."""
