"""A released model on scans, shared by `predict`, `verify`, `monitor` and the stage that packs it."""
