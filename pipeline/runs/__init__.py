"""Runs of the pipeline, finished or under way, as `compare` and `status` look at them."""
