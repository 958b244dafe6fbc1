"""Calibrators, which turn logits into probabilities: their form, fit, selection and update."""
