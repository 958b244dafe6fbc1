"""calibrate: fit calibrators and evaluate the predictions."""
