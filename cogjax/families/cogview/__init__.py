"""CogView (Ding et al. 2021)."""
