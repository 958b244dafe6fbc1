"""Write one self-contained page about the whole run."""
