"""Captions, images and their files; numpy and Pillow, no networks."""
