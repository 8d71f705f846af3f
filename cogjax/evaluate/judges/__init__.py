"""Judges of images and texts: networks, rules, and scores that combine them."""
