"""Jobs of a cluster that Slurm schedules."""
