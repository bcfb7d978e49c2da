"""The arithmetic of pruning: pure functions and frozen data on numpy, nothing else."""
