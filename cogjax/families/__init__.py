"""What each paper is: presets, layouts and objectives, one folder a family."""
