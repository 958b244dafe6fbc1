"""Preprocess each scan independently, to a common grid and intensity scale."""
