"""Masks of lesions or organs: read, brought to the grid of their scan, and measured."""
