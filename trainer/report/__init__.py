"""report.html: what a run came to, on one page without scripts that needs nothing else."""
