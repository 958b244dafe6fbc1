"""How it learns: encoder, adaptation to the domain, head, and the one training loop."""
