"""preprocess: prepare each scan by itself."""
