"""DALL-E mini and mega, and min-dalle's files of them."""
