"""Train one fold and predict its held-out cases."""
