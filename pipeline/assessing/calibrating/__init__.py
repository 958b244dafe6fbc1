"""From logits to probabilities: the maps, their fit, and which of them is worth its numbers."""
