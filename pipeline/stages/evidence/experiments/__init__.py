"""Experiments: which networks are compared, on which cases, and what they predict."""
