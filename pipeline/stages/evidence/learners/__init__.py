"""Models that only the experiments fit: few-shot, zero-shot, probes on subsets."""
