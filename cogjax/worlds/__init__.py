"""Data sets with known content: shapes, emoji, COCO captions."""
