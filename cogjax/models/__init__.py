"""One network per file: its config, its modules and nothing else."""
