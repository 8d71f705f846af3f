"""From the sections of a config to a training run, a file for each kind."""
