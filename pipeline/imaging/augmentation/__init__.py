"""Random augmentation of stored cases: one table of strengths, applied case by case or to batches."""
