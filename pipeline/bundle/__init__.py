"""Released bundles: write, open, verify and run them."""
