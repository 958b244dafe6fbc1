"""Metrics, recalibration and prediction intervals of a number (regression)."""
