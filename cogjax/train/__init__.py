"""The training loop: it sees a task and batches, never a network."""
