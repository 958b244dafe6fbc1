"""Whether a model that is in use still meets the patients that it was developed on, and is still calibrated."""
