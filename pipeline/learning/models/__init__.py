"""Encoders, heads and what else a network is made of."""
