"""Services that a run's figures go to beside its directory: --log_to. metrics.jsonl stays the truth."""
