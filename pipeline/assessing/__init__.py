"""How you judge it: figures, intervals and calibration, on plain arrays."""
