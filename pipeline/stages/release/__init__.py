"""release: check the gates and write the bundle."""
