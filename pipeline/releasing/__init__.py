"""What you get handed: the bundle, its card and its checksums."""
