"""Metrics of feature matrices, pixels and token lists: numpy in, numbers out."""
