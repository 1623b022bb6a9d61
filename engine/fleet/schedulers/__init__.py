"""What runs jobs: one contract (jobs.Scheduler), Slurm, and a scheduler for one machine without Slurm."""
