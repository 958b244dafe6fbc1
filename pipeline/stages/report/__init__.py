"""report: write one page about the whole run."""
