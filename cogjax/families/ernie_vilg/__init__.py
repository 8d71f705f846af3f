"""ERNIE-ViLG (Zhang et al. 2021)."""
