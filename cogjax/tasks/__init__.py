"""Training objectives: `init` and `loss` as pure functions of explicit state."""
