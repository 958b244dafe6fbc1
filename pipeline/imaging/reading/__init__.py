"""Readers: one module per format, called by `volumes.read_scan`."""
