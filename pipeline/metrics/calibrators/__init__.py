"""Calibrators: from logits to probabilities."""
