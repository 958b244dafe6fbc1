"""Continued pretraining without labels."""
