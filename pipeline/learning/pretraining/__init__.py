"""Training an encoder on without labels: the loop, what it trains, and what an objective has to offer."""
