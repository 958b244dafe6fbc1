"""One door per stage of dvc.yaml: files in, rooms called, files out."""
