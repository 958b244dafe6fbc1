"""Fit calibrators and evaluate the predictions."""
