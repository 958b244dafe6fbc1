"""Alignment losses: one file per loss."""
