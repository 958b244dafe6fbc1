"""The commands, one folder each: `__init__.py` declares the options, `run.py` does the work."""
