"""Encoders, heads and the other parts of a network."""
