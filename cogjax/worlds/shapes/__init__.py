"""Scenes of coloured shapes: exact captions, questions, and an oracle."""
