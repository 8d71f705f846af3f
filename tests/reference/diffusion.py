"""Diffusion in float64 numpy, from the papers.

Imagen (Saharia et al. 2022), Nichol & Dhariwal 2021 (cosine), Ho et al. 2020 (discrete
posterior). Nothing of cogjax.
"""

import numpy as np


def cosine_alpha_bar(t):
    """alpha^2 of Nichol & Dhariwal's equation 17, not divided by its value at 0."""
    return np.cos((np.float64(t) + 0.008) / 1.008 * np.pi / 2) ** 2


def discrete_linear_alpha_bar(steps=1000):
    """alpha^2 after each of 1,000 steps with betas 1e-4 to 0.02."""
    return np.cumprod(1 - np.linspace(1e-4, 0.02, steps))


def discrete_posterior(z, x0, alpha_bar, earlier):
    """Ho et al.'s q(z_s | z_t, x0), equations 6 and 7: (mean, variance)."""
    beta = 1 - alpha_bar / earlier
    mean = np.sqrt(earlier) * beta / (1 - alpha_bar) * x0
    mean += np.sqrt(1 - beta) * (1 - earlier) / (1 - alpha_bar) * z
    return mean, (1 - earlier) / (1 - alpha_bar) * beta


def log_snr(alpha_bar):
    return np.log(alpha_bar / (1 - alpha_bar))


def gaussian_estimate(z, log_snr, mean, std):
    """E[x | z] where x is normal with this mean and deviation, a number a pixel."""
    alpha = np.sqrt(1 / (1 + np.exp(-log_snr)))
    sigma = np.sqrt(1 / (1 + np.exp(log_snr)))
    gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
    return mean + gain * (z - alpha * mean)


def gaussian_flow(z, start, end, mean, std):
    """Where the probability flow carries z of such data, exactly."""

    def level(log_snr):
        alpha = np.sqrt(1 / (1 + np.exp(-log_snr)))
        return alpha, np.sqrt(alpha**2 * std**2 + 1 - alpha**2)

    (alpha, spread), (next_alpha, next_spread) = level(start), level(end)
    return next_alpha * mean + next_spread / spread * (z - alpha * mean)


def dpmpp_first(z, x0, start, end):
    """A first-order step of DPM-Solver++ (Lu et al. 2022, equation 9)."""

    def level(log_snr):
        return np.sqrt(1 / (1 + np.exp(-log_snr))), np.sqrt(1 / (1 + np.exp(log_snr)))

    (_, sigma), (next_alpha, next_sigma) = level(start), level(end)
    h = (end - start) / 2
    return next_sigma / sigma * z - next_alpha * np.expm1(-h) * x0


def dynamic_threshold(x0, percentile):
    """One image at a time, as section 2.3 says it."""
    found = []
    for image, p in zip(x0, percentile, strict=True):
        s = max(np.percentile(np.abs(image), p), 1)
        found.append(np.clip(image, -s, s) / s)
    return np.stack(found)
