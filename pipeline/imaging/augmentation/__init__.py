"""Random augmentation of stored images."""
