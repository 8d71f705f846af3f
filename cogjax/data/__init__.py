"""Captions, pictures and their files; numpy and Pillow, no networks."""
