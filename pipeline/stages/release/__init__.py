"""Check the gates and write the bundle."""
