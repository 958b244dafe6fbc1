"""Adapt the pretrained encoder to the domain of one fold."""
