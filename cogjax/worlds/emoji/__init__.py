"""Emoji drawings in several styles with bilingual captions."""
