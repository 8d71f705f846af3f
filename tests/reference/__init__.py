"""Networks stated once more, in float64 numpy, from the papers' formulas.

One file a network. They import numpy and each other, and nothing of cogjax: what both
say is then said twice. Short before fast, whole sequences, no padding and no cache.
"""
