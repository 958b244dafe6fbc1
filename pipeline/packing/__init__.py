"""What `release` puts into the bundle beside the model, and what it holds the model to."""
