"""Simulate a multi-site cohort of head MRI from an anatomical template, in the file formats of hospitals."""
