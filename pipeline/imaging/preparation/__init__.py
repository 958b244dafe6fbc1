"""Deterministic preprocessing: from a scan to stored channels of one size and intensity scale."""
