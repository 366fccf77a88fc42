"""Kubernetes: JobSet, Indexed Job, GKE TPU slices."""
