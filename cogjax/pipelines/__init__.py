"""Trained models as objects: generate, edit, caption, answer, score."""
