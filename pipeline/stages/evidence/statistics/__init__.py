"""Statistics of the experiments: differences, learning curves, verdicts."""
