"""Queued resources of Cloud TPU."""
