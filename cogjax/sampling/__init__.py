"""Drawing images and captions from trained networks."""
