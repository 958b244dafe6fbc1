"""Patients with exponential times whose truth is known."""

import numpy as np


def simulated(n=400, censored=0.4, seed=0):
    """Draw features (n, 3), log hazards (n,), times and events; a share of the patients is censored."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 3))
    log_hazard = features @ np.array([0.8, -0.5, 0.0])
    true = rng.exponential(np.exp(-log_hazard))
    drawn = rng.exponential(size=n)
    end = drawn * np.quantile(true / drawn, 1 - censored)  # a scale that censors this share
    return features, log_hazard, np.minimum(true, end), true <= end
