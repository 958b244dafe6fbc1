"""Readers: each format in a file of its own, all of them behind `volumes.read_scan`."""
