"""Reserve the test set and assign patients to folds."""
