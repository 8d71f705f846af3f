"""Sampling of images from noise."""
