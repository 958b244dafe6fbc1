"""Metrics, intervals, calibrators and statistical tests on plain arrays; runs without torch."""
