"""DALL-E (Ramesh et al. 2021)."""
