"""Ways to adapt, one file each."""
