"""Processes on this machine, under the policy of a cluster."""
