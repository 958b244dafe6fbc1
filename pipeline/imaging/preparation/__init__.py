"""Convert a scan to stored channels of one size and intensity scale, deterministically."""
