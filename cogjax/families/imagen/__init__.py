"""Imagen (Saharia et al. 2022, arXiv 2205.11487)."""
