"""Sampling tokens from a transformer: images by their codes, and texts."""
