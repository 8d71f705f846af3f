"""Sampling from trained networks."""
