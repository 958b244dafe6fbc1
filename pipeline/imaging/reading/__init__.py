"""Readers: one file per format, all behind `volumes.read_scan`."""
