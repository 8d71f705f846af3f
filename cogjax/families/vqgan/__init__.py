"""VQGAN (Esser et al. 2021)."""
