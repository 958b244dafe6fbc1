"""Measure whether transfer and adaptation improve the model."""
