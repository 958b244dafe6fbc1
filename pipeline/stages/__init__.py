"""The stages of dvc.yaml, one folder each; `run.py` is where a stage begins."""
