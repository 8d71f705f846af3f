"""Weights in and out of cogjax."""
