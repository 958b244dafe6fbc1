"""The training loop, its recipes, and how one is chosen."""
